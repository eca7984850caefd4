//! No tenant sees, counts, or even guesses at another's. `catalogue/` asks PostgreSQL what there is and holds all of it to the rules;
//! the others try what the rules are meant to prevent.

mod catalogue;
mod connections;
mod reading;
mod statements;
mod writing;
