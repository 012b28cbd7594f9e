//! Whose each partition is, where members say what they own and may contradict each other.

use super::Ranked;

/// In place of a rank: no member owns the partition.
pub(in super::super) const NOBODY: u32 = u32::MAX;
/// In place of a rank: two members of the newest generation that claims it do, so neither owns it.
pub(in super::super) const CONTESTED: u32 = u32::MAX - 1;

/// The rank of each partition's owner: the claimer with the newest generation, if there is one such.
pub(in super::super) fn owners(ranked: &Ranked<'_>) -> Vec<u32> {
    let mut owners = vec![NOBODY; ranked.total()];
    // The generation of the claims that count so far.
    let mut newest = vec![None; ranked.total()];
    for (member, rank) in ranked.members().zip(0..) {
        for &partition in &member.owned {
            let number = ranked.number(partition);
            if owners[number] == NOBODY || member.generation > newest[number] {
                (owners[number], newest[number]) = (rank, member.generation);
            } else if member.generation == newest[number] {
                owners[number] = CONTESTED;
            }
        }
    }
    owners
}
