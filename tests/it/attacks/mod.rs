//! What an attacker tries at the entrances, as data: each attempt is refused, and what lies right beside it is accepted.

mod tokens;
