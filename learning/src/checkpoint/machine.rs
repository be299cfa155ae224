//! The stack machine of pickles, protocols 0 to 5: it arranges data and runs nothing. Names outside the list, extension
//! codes and foreign persistent ids are refused where they stand, before anything could be made of them.

use std::collections::{BTreeMap, HashMap};

use consilium_common::limits;

use super::arena::{self, Arena, Id, Node, Storage};
use super::error::PickleError;
use super::globals;
use super::value::Value;

/// What one pickle held.
#[derive(Debug)]
pub(super) struct Unpickled {
    pub(super) value: Value,
    /// Bytes up to and with its end.
    pub(super) used: usize,
    /// The storages that its tensors lie in, as each was first named.
    pub(super) storages: BTreeMap<String, Storage>,
}

/// Reads one pickle from the beginning of bytes. What follows its end is left.
pub(super) fn unpickle(bytes: &[u8]) -> Result<Unpickled, PickleError> {
    let mut machine = Machine::new(bytes);
    let root = machine.run().map_err(|e| e.at(machine.at))?;
    let value = machine.arena.tree(root).map_err(|e| e.at(machine.at))?;
    Ok(Unpickled { value, used: machine.at, storages: machine.storages })
}

pub(super) struct Machine<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
    pub(super) arena: Arena,
    stack: Vec<Id>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    storages: BTreeMap<String, Storage>,
}

impl<'a> Machine<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            arena: Arena::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            storages: BTreeMap::new(),
        }
    }

    fn run(&mut self) -> Result<Id, PickleError> {
        loop {
            match self.byte()? {
                b'.' => return self.pop(),
                code => self.step(code)?,
            }
        }
    }

    fn step(&mut self, code: u8) -> Result<(), PickleError> {
        match code {
            // PROTO, FRAME
            0x80 => match self.byte()? {
                0..=5 => Ok(()),
                newer => Err(PickleError::unsupported(format!("protocol {newer} of pickle"))),
            },
            0x95 => match usize::try_from(self.u64()?) {
                Ok(len) if len <= self.bytes.len() - self.at => Ok(()),
                _ => Err(PickleError::malformed("a part is longer than the file")),
            },
            b'N' | 0x88 | 0x89 | b'I' | b'J' | b'K' | b'M' | b'L' | 0x8a | 0x8b | b'F' | b'G' => self.number(code),
            b'S' | b'T' | b'U' | b'V' | b'X' | 0x8c | 0x8d | b'B' | b'C' | 0x8e | 0x96 => self.text(code),
            b'(' | b'0' | b'1' | b'2' | b'p' | b'q' | b'r' | b'g' | b'h' | b'j' | 0x94 => self.stack_or_memo(code),
            b')' | b't' | 0x85..=0x87 | b']' | b'l' | b'}' | b'd' | 0x8f | 0x91 => self.container(code),
            b'a' | b'e' | b's' | b'u' | 0x90 => self.add_to(code),
            b'c' | 0x93 | b'R' | 0x81 | b'b' | b'i' | b'o' | b'Q' => self.object(code),
            0x82..=0x84 => Err(PickleError::unsupported("an extension code, which stands for unknown code")),
            0x92 => Err(PickleError::unsupported("an object with named arguments")),
            b'P' => Err(PickleError::unsupported("a persistent id that is no storage of PyTorch")),
            0x97 | 0x98 => Err(PickleError::unsupported("a buffer outside the file")),
            _ => Err(PickleError::malformed(format!("unknown code {code:#04x}"))),
        }
    }

    /// Marks, pops and copies; what is kept under a number and fetched again.
    fn stack_or_memo(&mut self, code: u8) -> Result<(), PickleError> {
        match code {
            b'(' => {
                self.room(self.marks.len())?;
                self.marks.push(self.stack.len());
                Ok(())
            }
            // Right behind a mark, POP takes the mark.
            b'0' if self.marks.last() == Some(&self.stack.len()) => self.pop_mark().map(drop),
            b'0' => self.pop().map(drop),
            b'1' => self.pop_mark().map(drop),
            b'2' => self.push_id(self.top()?),
            b'p' => self.line_number().and_then(|number| self.remember(number)),
            b'q' => self.byte().and_then(|number| self.remember(u32::from(number))),
            b'r' => self.u32().and_then(|number| self.remember(number)),
            b'g' => self.line_number().and_then(|number| self.recall(number)),
            b'h' => self.byte().and_then(|number| self.recall(u32::from(number))),
            b'j' => self.u32().and_then(|number| self.recall(number)),
            // MEMOIZE. The memo never holds more than the stack and the budget let in.
            _ => self.remember(u32::try_from(self.memo.len()).unwrap_or(u32::MAX)),
        }
    }

    /// New tuples, lists, dictionaries and sets.
    fn container(&mut self, code: u8) -> Result<(), PickleError> {
        let node = match code {
            b')' => Node::Tuple(Vec::new()),
            b't' => Node::Tuple(self.pop_mark()?),
            0x85 => Node::Tuple(vec![self.pop()?]),
            0x86 => {
                let second = self.pop()?;
                Node::Tuple(vec![self.pop()?, second])
            }
            0x87 => {
                let (third, second) = (self.pop()?, self.pop()?);
                Node::Tuple(vec![self.pop()?, second, third])
            }
            b']' => Node::List(Vec::new()),
            b'l' => Node::List(self.pop_mark()?),
            b'}' => Node::Dict(Vec::new()),
            b'd' => {
                let items = self.pop_mark()?;
                Node::Dict(arena::pairs(&items)?.iter().map(|[key, value]| (*key, *value)).collect())
            }
            0x8f => Node::Set(Vec::new()),
            _ => Node::Set(self.pop_mark()?),
        };
        self.push(node)
    }

    /// More for the list, dictionary or set below.
    fn add_to(&mut self, code: u8) -> Result<(), PickleError> {
        let items = match code {
            b'a' => vec![self.pop()?],
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.pop_mark()?,
        };
        let target = self.top()?;
        match code {
            b'a' | b'e' => self.arena.extend_list(target, &items),
            b's' | b'u' => self.arena.extend_dict(target, &items),
            _ => self.arena.extend_set(target, &items),
        }
    }

    /// Names, and what allowed names make of data.
    fn object(&mut self, code: u8) -> Result<(), PickleError> {
        match code {
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Node::Global(globals::find(module, name)?))
            }
            // STACK_GLOBAL
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let global = globals::find(self.arena.text(module)?, self.arena.text(name)?)?;
                self.push(Node::Global(global))
            }
            // REDUCE, NEWOBJ
            b'R' | 0x81 => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                let made = self.arena.apply(callable, arguments)?;
                self.push_id(made)
            }
            // BUILD
            b'b' => {
                let state = self.pop()?;
                self.arena.build(self.top()?, state)
            }
            // INST
            b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                let callable = self.arena.add(Node::Global(globals::find(module, name)?))?;
                let arguments = self.pop_mark()?;
                self.call(callable, arguments)
            }
            // OBJ
            b'o' => {
                let mut arguments = self.pop_mark()?;
                if arguments.is_empty() {
                    return Err(PickleError::malformed("an object has no class"));
                }
                let callable = arguments.remove(0);
                self.call(callable, arguments)
            }
            // BINPERSID
            _ => {
                let id = self.pop()?;
                let (made, storage) = self.arena.storage(id)?;
                self.storages.entry(storage.key.clone()).or_insert(storage);
                self.push_id(made)
            }
        }
    }

    fn call(&mut self, callable: Id, arguments: Vec<Id>) -> Result<(), PickleError> {
        let arguments = self.arena.add(Node::Tuple(arguments))?;
        let made = self.arena.apply(callable, arguments)?;
        self.push_id(made)
    }

    pub(super) fn push(&mut self, node: Node) -> Result<(), PickleError> {
        let id = self.arena.add(node)?;
        self.push_id(id)
    }

    fn push_id(&mut self, id: Id) -> Result<(), PickleError> {
        self.room(self.stack.len())?;
        self.stack.push(id);
        Ok(())
    }

    fn room(&self, used: usize) -> Result<(), PickleError> {
        let what = "too many values wait for each other";
        if used < limits::MAX_PICKLE_STACK { Ok(()) } else { Err(PickleError::TooLarge { what }) }
    }

    /// The uppermost value above the last mark.
    fn top(&self) -> Result<Id, PickleError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let own = self.stack.get(floor..).and_then(<[Id]>::last);
        own.copied().ok_or_else(|| PickleError::malformed("a value is missing"))
    }

    fn pop(&mut self) -> Result<Id, PickleError> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    /// All values above the last mark, and the mark.
    fn pop_mark(&mut self) -> Result<Vec<Id>, PickleError> {
        let floor = self.marks.pop().ok_or_else(|| PickleError::malformed("a mark is missing"))?;
        Ok(self.stack.split_off(floor.min(self.stack.len())))
    }

    fn remember(&mut self, number: u32) -> Result<(), PickleError> {
        self.arena.budget.spend(size_of::<(u32, Id)>())?;
        let top = self.top()?;
        self.memo.insert(number, top);
        Ok(())
    }

    fn recall(&mut self, number: u32) -> Result<(), PickleError> {
        let known = self.memo.get(&number).copied();
        self.push_id(known.ok_or_else(|| PickleError::malformed(format!("value {number} was never kept")))?)
    }
}
