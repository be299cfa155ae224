//! What the allowed names make of their arguments: dictionaries, arrays, tensors. This is where a pickle would run code.

use super::arena::{Arena, Id, Node, Storage};
use super::error::PickleError;
use super::globals::Global;
use super::numpy::{self, NumpyType};
use super::value::{ElementType, Tensor};

impl Arena {
    /// What a name makes of arguments; never anything but data.
    pub(super) fn apply(&mut self, callable: Id, arguments: Id) -> Result<Id, PickleError> {
        let Node::Tuple(arguments) = self.node(arguments) else {
            return Err(PickleError::malformed(format!("its arguments are {}", self.node(arguments).kind())));
        };
        let arguments = arguments.clone();
        // Paid each time: one long tuple may serve for a million calls.
        self.budget.spend(size_of_val(arguments.as_slice()))?;
        let Node::Global(global) = self.node(callable) else {
            return Err(PickleError::malformed(format!("it calls {}", self.node(callable).kind())));
        };
        let global = global.clone();
        match (&global, arguments.as_slice()) {
            (Global::Dict, []) => self.add(Node::Dict(Vec::new())),
            (Global::Dict, [pairs]) => self.dict_of(*pairs),
            // The factory of missing entries is of no use to data.
            (Global::DefaultDict, [] | [_]) => self.add(Node::Dict(Vec::new())),
            (Global::List, _) => self.collection(&arguments, Node::List),
            (Global::Tuple, _) => self.collection(&arguments, Node::Tuple),
            (Global::Set, _) => self.collection(&arguments, Node::Set),
            (Global::Bytes | Global::ByteArray, []) => self.add(Node::Bytes(Vec::new())),
            (Global::ByteArray, [bytes]) => self.copy_bytes(*bytes),
            (Global::Encode | Global::ByteArray | Global::Bytes, [text, encoding]) => self.encode(*text, *encoding),
            (Global::Path, parts) => self.path(parts),
            // The arguments are a class, a shape and a letter; the state that follows brings all again.
            (Global::EmptyArray, [_, _, _]) => self.add(Node::EmptyArray),
            (Global::NumpyType, [name, ..]) => {
                let kind = NumpyType::parse(self.text(*name)?)?;
                self.add(Node::NumpyType(kind))
            }
            (Global::Scalar, [kind, bytes]) => {
                let (kind, bytes) = (self.numpy_type(*kind)?, self.copied(*bytes)?);
                self.scalar(kind, &bytes)
            }
            (Global::FromBuffer, [bytes, kind, shape, order]) => {
                let columns_first = self.text(*order)? == "F";
                let node = self.array_of(*kind, *shape, columns_first, *bytes)?;
                self.add(node)
            }
            (Global::Tensor, [storage, offset, shape, strides, ..]) => {
                self.tensor(*storage, *offset, *shape, *strides, None)
            }
            (Global::TypedTensor, [storage, offset, shape, strides, _, _, element, ..]) => {
                self.tensor(*storage, *offset, *shape, *strides, Some(*element))
            }
            (Global::Parameter, [tensor, ..]) => match self.node(*tensor) {
                Node::Tensor(_) => Ok(*tensor),
                other => Err(PickleError::malformed(format!("a parameter is {}", other.kind()))),
            },
            (Global::Kept(name), _) => self.add(Node::Named(name, arguments)),
            _ => Err(PickleError::malformed(format!("{global:?} has {} arguments", arguments.len()))),
        }
    }

    /// Sets the state of what was made before.
    pub(super) fn build(&mut self, target: Id, state: Id) -> Result<(), PickleError> {
        match self.node(target) {
            // Attributes of a dictionary or parameter, such as `_metadata` of weights, are of no use here.
            Node::Dict(_) | Node::Tensor(_) if matches!(self.node(state), Node::Dict(_) | Node::Tuple(_)) => Ok(()),
            Node::NumpyType(kind) => {
                let kind = *kind;
                let [_version, order, ..] = self.tuple(state)? else {
                    return Err(PickleError::malformed("a numpy type has no state"));
                };
                let kind = kind.with_order(self.text(*order)?)?;
                self.replace(target, Node::NumpyType(kind))
            }
            Node::EmptyArray => {
                let [_version, shape, kind, columns_first, content] = *self.tuple(state)? else {
                    return Err(PickleError::malformed("a numpy array has no state"));
                };
                let columns_first = matches!(self.node(columns_first), Node::Bool(true));
                let node = self.array_of(kind, shape, columns_first, content)?;
                self.replace(target, node)
            }
            other => Err(PickleError::malformed(format!("it sets the state of {}", other.kind()))),
        }
    }

    /// The storage that a persistent id stands for.
    pub(super) fn storage(&mut self, id: Id) -> Result<(Id, Storage), PickleError> {
        let unknown = || PickleError::unsupported("a persistent id that is no storage of PyTorch");
        let Node::Tuple(parts) = self.node(id) else { return Err(unknown()) };
        let [word, kind, key, _device, elements, view @ ..] = parts.as_slice() else { return Err(unknown()) };
        let Node::Global(Global::Storage(element)) = self.node(*kind) else { return Err(unknown()) };
        if self.text(*word)? != "storage" {
            return Err(unknown());
        }
        if view.iter().any(|id| !matches!(self.node(*id), Node::None)) {
            return Err(PickleError::unsupported("a view of a storage, as PyTorch wrote it before 0.4"));
        }
        let storage = Storage { key: self.text(*key)?.to_owned(), element: *element, elements: self.count(*elements)? };
        Ok((self.add(Node::Storage(Box::new(storage.clone())))?, storage))
    }

    fn dict_of(&mut self, pairs: Id) -> Result<Id, PickleError> {
        let found = self.items(pairs)?.to_vec();
        let mut dict = Vec::new();
        for pair in found {
            let [key, value] = *self.items(pair)? else {
                return Err(PickleError::malformed("a dictionary is made of something else than pairs"));
            };
            dict.push((key, value));
        }
        self.add(Node::Dict(dict))
    }

    fn collection(&mut self, arguments: &[Id], make: impl Fn(Vec<Id>) -> Node) -> Result<Id, PickleError> {
        let items = match arguments {
            [] => Vec::new(),
            [items] => self.items(*items)?.to_vec(),
            _ => return Err(PickleError::malformed("a list, tuple or set is made of several things")),
        };
        self.add(make(items))
    }

    fn copy_bytes(&mut self, bytes: Id) -> Result<Id, PickleError> {
        let bytes = self.copied(bytes)?;
        self.add(Node::Bytes(bytes))
    }

    /// A copy of bytes, paid before it is made.
    fn copied(&mut self, id: Id) -> Result<Vec<u8>, PickleError> {
        let len = self.bytes(id)?.len();
        self.budget.spend(len)?;
        Ok(self.bytes(id)?.to_vec())
    }

    /// Bytes that an old protocol holds as a text of Latin-1.
    fn encode(&mut self, text: Id, encoding: Id) -> Result<Id, PickleError> {
        let encoding = self.text(encoding)?;
        if !matches!(encoding, "latin1" | "latin-1") {
            return Err(PickleError::unsupported("bytes in another encoding than Latin-1"));
        }
        let bytes: Result<Vec<u8>, _> = self.text(text)?.chars().map(|c| u8::try_from(u32::from(c))).collect();
        let bytes = bytes.map_err(|_| PickleError::malformed("bytes hold a letter beyond Latin-1"))?;
        self.add(Node::Bytes(bytes))
    }

    fn path(&mut self, parts: &[Id]) -> Result<Id, PickleError> {
        let mut len = 0;
        for part in parts {
            let more = self.text(*part)?.len() + 1;
            // Paid before it is made: one long part may be named a million times.
            self.budget.spend(more)?;
            len += more;
        }
        let mut path = String::with_capacity(len);
        for part in parts {
            if !path.is_empty() && !path.ends_with(['/', '\\']) {
                path.push('/');
            }
            path.push_str(self.text(*part)?);
        }
        self.add(Node::Path(path))
    }

    fn array_of(&mut self, kind: Id, shape: Id, columns_first: bool, content: Id) -> Result<Node, PickleError> {
        let kind = self.numpy_type(kind)?;
        let shape = self.counts(shape)?;
        match self.node(content) {
            Node::List(items) => self.objects(kind, &shape, items),
            _ => {
                let bytes = self.copied(content)?;
                self.array(kind, shape, columns_first, &bytes)
            }
        }
    }

    fn tensor(
        &mut self,
        storage: Id,
        offset: Id,
        shape: Id,
        strides: Id,
        element: Option<Id>,
    ) -> Result<Id, PickleError> {
        let Node::Storage(storage) = self.node(storage) else {
            return Err(PickleError::malformed(format!("a tensor lies in {}", self.node(storage).kind())));
        };
        let element = element.map_or(Ok(storage.element), |id| self.element(id))?;
        let stored = storage.elements.saturating_mul(storage.element.bytes()) / element.bytes();
        let (offset, shape, strides) = (self.count(offset)?, self.counts(shape)?, self.counts(strides)?);
        let end = tensor_end(offset, &shape, &strides)?;
        if end > stored {
            return Err(PickleError::malformed(format!(
                "a tensor of shape {shape:?} ends at element {end} of a storage of {stored}"
            )));
        }
        // A step that is never taken may be of any size.
        let strides = strides.iter().zip(&shape).map(|(stride, side)| if *side > 1 { *stride } else { 0 }).collect();
        let tensor = Tensor { storage: storage.key.clone(), element, offset, shape, strides, end, stored };
        self.add(Node::Tensor(Box::new(tensor)))
    }

    fn element(&self, id: Id) -> Result<ElementType, PickleError> {
        match self.node(id) {
            Node::Global(Global::Element(element)) => Ok(*element),
            other => Err(PickleError::malformed(format!("the element type of a tensor is {}", other.kind()))),
        }
    }

    fn numpy_type(&self, id: Id) -> Result<NumpyType, PickleError> {
        match self.node(id) {
            Node::NumpyType(kind) => Ok(*kind),
            other => Err(PickleError::malformed(format!("a numpy type is {}", other.kind()))),
        }
    }

    pub(super) fn text(&self, id: Id) -> Result<&str, PickleError> {
        match self.node(id) {
            Node::Text(text) => Ok(text),
            other => Err(PickleError::malformed(format!("{} stands where a text should", other.kind()))),
        }
    }

    fn bytes(&self, id: Id) -> Result<&[u8], PickleError> {
        match self.node(id) {
            Node::Bytes(bytes) => Ok(bytes),
            other => Err(PickleError::malformed(format!("{} stands where bytes should", other.kind()))),
        }
    }

    fn tuple(&self, id: Id) -> Result<&[Id], PickleError> {
        match self.node(id) {
            Node::Tuple(ids) => Ok(ids),
            other => Err(PickleError::malformed(format!("{} stands where a tuple should", other.kind()))),
        }
    }

    fn items(&self, id: Id) -> Result<&[Id], PickleError> {
        match self.node(id) {
            Node::Tuple(ids) | Node::List(ids) | Node::Set(ids) => Ok(ids),
            other => Err(PickleError::malformed(format!("{} stands where a list should", other.kind()))),
        }
    }

    fn count(&self, id: Id) -> Result<usize, PickleError> {
        match self.node(id) {
            Node::Int(number) => {
                usize::try_from(*number).map_err(|_| PickleError::malformed(format!("a size or place is {number}")))
            }
            other => Err(PickleError::malformed(format!("{} stands where a size should", other.kind()))),
        }
    }

    fn counts(&self, id: Id) -> Result<Vec<usize>, PickleError> {
        let ids = self.items(id)?;
        // Before the list is made: a million sizes are no shape.
        numpy::checked_dimensions(ids.len())?;
        ids.iter().map(|id| self.count(*id)).collect()
    }
}

/// One more than the place of a tensor's last element.
fn tensor_end(offset: usize, shape: &[usize], strides: &[usize]) -> Result<usize, PickleError> {
    if shape.len() != strides.len() {
        return Err(PickleError::malformed(format!("a tensor of shape {shape:?} has strides {strides:?}")));
    }
    if numpy::checked_elements(shape)? == 0 {
        return Ok(offset);
    }
    let mut end = offset.checked_add(1);
    for (side, stride) in shape.iter().zip(strides) {
        let reach = (side - 1).checked_mul(*stride);
        end = end.zip(reach).and_then(|(end, reach)| end.checked_add(reach));
    }
    end.ok_or_else(|| PickleError::malformed(format!("a tensor has strides {strides:?}")))
}
