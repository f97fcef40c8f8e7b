//! The verifier against cases with known answers, forged ones and mutants. Good evidence comes from the folder of cases
//! (`STELLA_CASES`, or `../shared/cases` from the project's root) or is made here with keys of the tests' own.

mod advisories;
mod cases;
mod clocks;
mod envelopes;
mod forged;
mod gaps;
mod gaps_of_signers;
mod hashes;
mod mint;
mod mutants;
mod private_authority;
mod support;
mod table;
mod world;
