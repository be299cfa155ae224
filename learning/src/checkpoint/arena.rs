//! The values of a pickle while it is read: numbered nodes, so that what a pickle shares or changes later costs nothing,
//! within a budget of memory; and their tree at the end, which neither contains itself nor outgrows a budget of its own.

use std::collections::HashSet;

use consilium_common::limits;

use super::error::PickleError;
use super::globals::Global;
use super::numpy::NumpyType;
use super::value::{Array, ElementType, Tensor, Value};

/// A node's number.
pub(super) type Id = u32;

/// One value, with the numbers of those that it holds.
#[derive(Clone, Debug)]
pub(super) enum Node {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Set(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    NumpyType(NumpyType),
    /// An array before its state was set.
    EmptyArray,
    Array(Box<Array>),
    Storage(Box<Storage>),
    Tensor(Box<Tensor>),
    Path(String),
    Named(&'static str, Vec<Id>),
}

/// A storage that tensors are cut from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Storage {
    pub(super) key: String,
    pub(super) element: ElementType,
    pub(super) elements: usize,
}

impl Node {
    /// Bytes of memory beside the node itself.
    fn weight(&self) -> usize {
        match self {
            Self::Text(text) | Self::Path(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::List(ids) | Self::Tuple(ids) | Self::Set(ids) | Self::Named(_, ids) => ids.len() * size_of::<Id>(),
            Self::Dict(pairs) => pairs.len() * size_of::<(Id, Id)>(),
            Self::Array(array) => array_weight(array),
            Self::Storage(storage) => size_of::<Storage>() + storage.key.len(),
            Self::Tensor(tensor) => size_of::<Tensor>() + tensor_weight(tensor),
            _ => 0,
        }
    }

    /// What it is, for error messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::Bool(_) => "a truth value",
            Self::Int(_) | Self::Float(_) => "a number",
            Self::Text(_) => "a text",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "a list",
            Self::Tuple(_) => "a tuple",
            Self::Set(_) => "a set",
            Self::Dict(_) => "a dictionary",
            Self::Global(_) | Self::Named(..) => "a name",
            Self::NumpyType(_) => "a numpy type",
            Self::EmptyArray | Self::Array(_) => "an array",
            Self::Storage(_) => "a storage",
            Self::Tensor(_) => "a tensor",
            Self::Path(_) => "a path",
        }
    }
}

fn array_weight(array: &Array) -> usize {
    size_of::<Array>() + 8 * (array.shape.len() + array.shape.iter().product::<usize>())
}

fn tensor_weight(tensor: &Tensor) -> usize {
    tensor.storage.len() + 16 * tensor.shape.len()
}

/// Memory that may still be used.
#[derive(Debug)]
pub(super) struct Budget(usize);

impl Budget {
    pub(super) fn new() -> Self {
        Self(limits::MAX_PICKLE_MEMORY)
    }

    /// Takes so many bytes.
    pub(super) fn spend(&mut self, bytes: usize) -> Result<(), PickleError> {
        let left = self.0.checked_sub(bytes);
        self.0 = left.ok_or(PickleError::TooLarge { what: "its values need too much memory" })?;
        Ok(())
    }
}

/// All nodes of one pickle.
#[derive(Debug)]
pub(super) struct Arena {
    nodes: Vec<Node>,
    pub(super) budget: Budget,
}

impl Arena {
    pub(super) fn new() -> Self {
        Self { nodes: Vec::new(), budget: Budget::new() }
    }

    /// Adds a value. What it holds came from the file as it is, or was paid for before it was made.
    pub(super) fn add(&mut self, node: Node) -> Result<Id, PickleError> {
        self.budget.spend(size_of::<Node>() + node.weight())?;
        let id =
            Id::try_from(self.nodes.len()).map_err(|_| PickleError::TooLarge { what: "it has too many values" })?;
        self.nodes.push(node);
        Ok(id)
    }

    /// A value; `None` for a number that was never given out, which does not happen.
    pub(super) fn node(&self, id: Id) -> &Node {
        self.nodes.get(id as usize).unwrap_or(&Node::None)
    }

    /// Replaces a value by what its state makes of it.
    pub(super) fn replace(&mut self, id: Id, node: Node) -> Result<(), PickleError> {
        self.budget.spend(node.weight())?;
        if let Some(old) = self.nodes.get_mut(id as usize) {
            *old = node;
        }
        Ok(())
    }

    /// Adds to a list.
    pub(super) fn extend_list(&mut self, id: Id, items: &[Id]) -> Result<(), PickleError> {
        self.budget.spend(size_of_val(items))?;
        match self.nodes.get_mut(id as usize) {
            Some(Node::List(list)) => list.extend_from_slice(items),
            _ => return Err(self.unfit("adds items to", id)),
        }
        Ok(())
    }

    /// Adds to a set.
    pub(super) fn extend_set(&mut self, id: Id, items: &[Id]) -> Result<(), PickleError> {
        self.budget.spend(size_of_val(items))?;
        match self.nodes.get_mut(id as usize) {
            Some(Node::Set(set)) => set.extend_from_slice(items),
            _ => return Err(self.unfit("adds members to", id)),
        }
        Ok(())
    }

    /// Adds keys and values, in turn, to a dictionary.
    pub(super) fn extend_dict(&mut self, id: Id, items: &[Id]) -> Result<(), PickleError> {
        let pairs = pairs(items)?;
        self.budget.spend(size_of_val(pairs))?;
        match self.nodes.get_mut(id as usize) {
            Some(Node::Dict(dict)) => dict.extend(pairs.iter().map(|[key, value]| (*key, *value))),
            _ => return Err(self.unfit("adds entries to", id)),
        }
        Ok(())
    }

    fn unfit(&self, doing: &str, id: Id) -> PickleError {
        PickleError::malformed(format!("it {doing} {}", self.node(id).kind()))
    }

    /// The tree below a value.
    pub(super) fn tree(&self, root: Id) -> Result<Value, PickleError> {
        Tree { arena: self, budget: Budget::new(), open: Vec::new() }.value(root)
    }
}

/// Keys and values that stand in turn.
pub(super) fn pairs(items: &[Id]) -> Result<&[[Id; 2]], PickleError> {
    match items.as_chunks::<2>() {
        (pairs, []) => Ok(pairs),
        _ => Err(PickleError::malformed("a key has no value")),
    }
}

/// Turns nodes into a tree. Shared parts are copied, within the budget; a part that holds itself is refused.
struct Tree<'a> {
    arena: &'a Arena,
    budget: Budget,
    /// The nodes that the one at hand lies in.
    open: Vec<Id>,
}

impl Tree<'_> {
    fn value(&mut self, id: Id) -> Result<Value, PickleError> {
        if self.open.contains(&id) {
            return Err(PickleError::unsupported("a value that contains itself"));
        }
        if self.open.len() >= limits::MAX_PICKLE_DEPTH {
            return Err(PickleError::TooLarge { what: "its values lie too deep inside each other" });
        }
        let arena = self.arena;
        let node = arena.node(id);
        self.budget.spend(size_of::<Value>() + node.weight())?;
        self.open.push(id);
        let value = match node {
            Node::None => Value::None,
            Node::Bool(value) => Value::Bool(*value),
            Node::Int(number) => Value::Int(*number),
            Node::Float(number) => Value::Float(*number),
            Node::Text(text) => Value::Text(text.clone()),
            Node::Bytes(bytes) => Value::Bytes(bytes.clone()),
            Node::List(ids) => Value::List(self.values(ids)?),
            Node::Tuple(ids) => Value::Tuple(self.values(ids)?),
            Node::Set(ids) => Value::Set(self.values(ids)?),
            Node::Dict(pairs) => Value::Dict(self.entries(pairs)?),
            Node::Array(array) => Value::Array((**array).clone()),
            Node::Tensor(tensor) => Value::Tensor((**tensor).clone()),
            Node::Path(path) => Value::Path(path.clone()),
            Node::Named(name, ids) => Value::Named { name: (*name).to_owned(), arguments: self.values(ids)? },
            Node::Global(global) => named(global)?,
            Node::NumpyType(kind) => Value::Named { name: format!("numpy.dtype {kind}"), arguments: Vec::new() },
            Node::EmptyArray => return Err(PickleError::malformed("an array has no values")),
            Node::Storage(_) => return Err(PickleError::unsupported("a storage outside a tensor")),
        };
        self.open.pop();
        Ok(value)
    }

    fn values(&mut self, ids: &[Id]) -> Result<Vec<Value>, PickleError> {
        ids.iter().map(|id| self.value(*id)).collect()
    }

    fn entries(&mut self, pairs: &[(Id, Id)]) -> Result<Vec<(Value, Value)>, PickleError> {
        let (mut texts, mut numbers) = (HashSet::new(), HashSet::new());
        let mut entries = Vec::new();
        for (key, value) in pairs {
            let new = match self.arena.node(*key) {
                Node::Text(text) => texts.insert(text.as_str()),
                Node::Int(number) => numbers.insert(*number),
                _ => true,
            };
            if !new {
                return Err(PickleError::malformed("a dictionary has a key twice"));
            }
            entries.push((self.value(*key)?, self.value(*value)?));
        }
        Ok(entries)
    }
}

/// A name that stands as a value by itself.
fn named(global: &Global) -> Result<Value, PickleError> {
    let name = match global {
        Global::Kept(name) | Global::Name(name) => (*name).to_owned(),
        Global::Element(element) => element.to_string(),
        Global::Dict => "builtins.dict".to_owned(),
        Global::List => "builtins.list".to_owned(),
        Global::Tuple => "builtins.tuple".to_owned(),
        Global::Set => "builtins.set".to_owned(),
        Global::Bytes => "builtins.bytes".to_owned(),
        _ => return Err(PickleError::unsupported("a function or class as a value")),
    };
    Ok(Value::Named { name, arguments: Vec::new() })
}
