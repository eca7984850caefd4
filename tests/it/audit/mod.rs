//! Both verifiers of the audit trail, and the checkpoints that they check with.

mod checkpoints;
mod commands;
mod exports;
mod judge;
mod table;
