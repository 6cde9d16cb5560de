//! rcon
