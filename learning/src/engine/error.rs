//! What can go wrong with an engine.

use crate::native::LibraryError;

/// An engine that cannot be used, or that failed. Never a panic, whatever library was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The library of the engine is not there or unsuitable.
    #[error(transparent)]
    Library(#[from] Box<LibraryError>),
    /// The library does not work on the device.
    #[error(
        "ONNX Runtime {version} ({path}) was built without CUDA; run deploy/onnxruntime.sh --cuda for one with it, or use \
         --device onnx"
    )]
    NoCuda {
        /// The library.
        path: String,
        /// Its version.
        version: String,
    },
    /// This program was built without libtorch.
    #[error(
        "this program was built without libtorch; use --device auto, or build it with --features libtorch, for which \
         deploy/libtorch.sh fetches what is needed"
    )]
    NotBuilt,
    /// There is no such card.
    #[error(
        "there is no card cuda:{card}: libtorch sees {cards}; check the driver with nvidia-smi and that libtorch has CUDA \
         (deploy/libtorch.sh --cuda), or use --device auto"
    )]
    NoCard {
        /// The card asked for.
        card: u32,
        /// Cards that are seen.
        cards: u32,
    },
    /// A network could not be prepared.
    #[error("the engine {engine} cannot prepare member {member} ({why}); use --device cpu")]
    Prepare {
        /// The engine.
        engine: String,
        /// The member.
        member: usize,
        /// What the library said.
        why: String,
    },
    /// A network could not be computed.
    #[error("the engine {engine} failed in member {member} ({why}); use smaller tiles, or --device cpu")]
    Run {
        /// The engine.
        engine: String,
        /// The member.
        member: usize,
        /// What the library said.
        why: String,
    },
    /// A member that the ensemble does not have.
    #[error("there is no member {member}, the ensemble has {members}; this is a bug")]
    NoSuchMember {
        /// The member asked for.
        member: usize,
        /// Members of the ensemble.
        members: usize,
    },
}
