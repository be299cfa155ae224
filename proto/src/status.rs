//! One mapping between `ErrorCode` and gRPC status, in both directions. Two codes that share a gRPC code travel in the
//! `consilium-error` trailer, which wins where it is present.

use consilium_common::{ErrorCode, Invalid};
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

const TRAILER: &str = "consilium-error";

const TABLE: [(ErrorCode, Code, &str); 8] = [
    (ErrorCode::InvalidInput, Code::InvalidArgument, "invalid-input"),
    (ErrorCode::Unauthenticated, Code::Unauthenticated, "unauthenticated"),
    (ErrorCode::Forbidden, Code::PermissionDenied, "forbidden"),
    (ErrorCode::NotFound, Code::NotFound, "not-found"),
    (ErrorCode::Conflict, Code::AlreadyExists, "conflict"),
    (ErrorCode::OutOfDate, Code::FailedPrecondition, "out-of-date"),
    (ErrorCode::Unavailable, Code::Unavailable, "unavailable"),
    (ErrorCode::Internal, Code::Internal, "internal"),
];

/// A gRPC status with this code and message.
pub fn to_status(code: ErrorCode, message: impl Into<String>) -> Status {
    let (_, grpc, word) = TABLE.into_iter().find(|row| row.0 == code).unwrap_or(TABLE[7]);
    let mut status = Status::new(grpc, message);
    status.metadata_mut().insert(TRAILER, MetadataValue::from_static(word));
    status
}

/// The status of a request that breaks a rule.
pub fn invalid(error: Invalid) -> Status {
    to_status(ErrorCode::InvalidInput, error.to_string())
}

/// What a status received from the other side means. A broken connection, a deadline and a cancelled call are
/// `Unavailable`: the call is idempotent, try again.
pub fn from_status(status: &Status) -> ErrorCode {
    if let Some(word) = status.metadata().get(TRAILER).and_then(|v| v.to_str().ok())
        && let Some(row) = TABLE.iter().find(|row| row.2 == word)
    {
        return row.0;
    }
    match status.code() {
        Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::ResourceExhausted | Code::Aborted => {
            ErrorCode::Unavailable
        }
        code => TABLE.iter().find(|row| row.1 == code).map_or(ErrorCode::Internal, |row| row.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_wire() {
        for (code, _, _) in TABLE {
            assert_eq!(from_status(&to_status(code, "x")), code);
        }
        assert_eq!(from_status(&Status::cancelled("gone")), ErrorCode::Unavailable);
    }
}
