//! What an attacker sends, as data: every vector is refused as documented, and its valid neighbour is not.

mod input;
mod tokens;
