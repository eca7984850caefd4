pub(super) mod events;
pub(super) mod get;
pub(super) mod list;

use toolgate_events::{CallView, Status};
use toolgate_security::Described;

/// For the documentation, which takes no generic type.
pub(super) type ToolCallSchema = Described<CallView>;
pub(super) type StatusSchema = Described<Status>;
