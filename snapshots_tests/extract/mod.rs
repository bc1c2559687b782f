//! Extract and transform: the page parser on real and on hand-written pages, the lake between the two, the source's faults.

mod fuzz;
mod lake;
mod pages;
mod recorded;
mod replayed;
mod source;
