//! The words and layouts of a message. Pure functions of a notice that has no secrets any more.

pub mod alertmanager;
pub mod json;
pub mod slack;
pub mod text;

#[cfg(test)]
mod tests;
