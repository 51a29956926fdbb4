//! What the board's file says, in numbers; and the plan that is linked in. Made by build.rs.

include!(concat!(env!("OUT_DIR"), "/board.rs"));
