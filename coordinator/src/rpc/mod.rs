//! The wire: the three gRPC services. Only here, and in `client`, are generated types named. Every call first finds out
//! who calls (`access`); what it asks for is parsed, handed inwards, and the outcome becomes an answer or a status.

mod access;
pub(crate) mod convert;
mod federation;
mod operator;
mod status;
mod transfer;

use std::sync::Arc;

use consilium_common::ErrorCode;
use consilium_proto::status::to_status;
use consilium_proto::v1::federation_server::FederationServer;
use consilium_proto::v1::operator_server::OperatorServer;
use consilium_proto::v1::transfer_server::TransferServer;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::service::Routes;
use tracing::{debug, error};

use crate::clock::Clock;
use crate::engine::intake::Intake;
use crate::error::CoordinatorError;
use crate::identity::authority::Authority;
use crate::identity::tls::TlsState;
use crate::presence::Presence;

/// Messages hold a chunk of 1 MiB or a document of 1 MiB at most.
const MAX_MESSAGE: usize = 2 << 20;

/// What the services work with.
pub(crate) struct Context {
    pub(crate) intake: Intake,
    pub(crate) authority: Authority,
    pub(crate) tls: Arc<TlsState>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) presence: Presence,
    pub(crate) stop: CancellationToken,
}

/// All services.
pub(crate) fn routes(context: &Arc<Context>) -> Routes {
    let federation = FederationServer::new(federation::Service(Arc::clone(context)));
    let transfer = TransferServer::new(transfer::Service(Arc::clone(context)));
    let operator = OperatorServer::new(operator::Service(Arc::clone(context)));
    Routes::new(federation.max_decoding_message_size(MAX_MESSAGE))
        .add_service(transfer.max_decoding_message_size(MAX_MESSAGE))
        .add_service(operator.max_decoding_message_size(MAX_MESSAGE))
}

/// The one edge at which a failure becomes a status. Failures of the house are logged here, once, with their cause; the
/// caller learns that it can try again, not what our disk is called.
impl From<CoordinatorError> for Status {
    fn from(error: CoordinatorError) -> Self {
        let code = error.code();
        if error.is_infrastructure() {
            error!(%error, "a call failed");
            let text = match code {
                ErrorCode::Unavailable => {
                    "the coordinator's disk or database is in trouble; nothing is lost, try again later"
                }
                _ => "the coordinator failed; its log says why",
            };
            return to_status(code, text);
        }
        debug!(%error, ?code, "a call was refused");
        to_status(code, error.to_string())
    }
}
