//! Changes to groups whose processes run on: limits written anew, processes moved in and out. All or nothing:
//! what was done before a refusal is put back.

mod background;
mod complete;
mod moving;
mod origin;
mod transaction;

pub use background::{in_background, in_background_even_so};
pub use complete::completed;
pub use moving::{Family, Member, Target, give_up, move_all, move_run};
pub use origin::{Origin, crossed};
pub use transaction::Transaction;
