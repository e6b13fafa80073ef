//! What a text repeats.

/// Of each token of `ids`, how many tokens that end with it are those that `ids` end with; of the last one, none.
///
/// In a time that grows with their number: the Z algorithm, on the tokens from the last to the first.
pub fn common_with_end(ids: &[u32]) -> Vec<usize> {
    let back = |i: usize| ids[ids.len() - 1 - i];
    let (mut common, mut left, mut right) = (vec![0; ids.len()], 0, 0);
    for i in 1..ids.len() {
        let mut length = match i < right {
            true => (right - i).min(common[i - left]),
            false => 0,
        };
        while i + length < ids.len() && back(length) == back(i + length) {
            length += 1;
        }
        if i + length > right {
            (left, right) = (i, i + length);
        }
        common[i] = length;
    }
    common.reverse();
    common
}
