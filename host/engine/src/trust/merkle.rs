//! Proofs that a leaf is in a hash tree (RFC 9162, section 2.1.3.2; the trees are those of RFC 6962).

use cooperage_store::Digest;

/// The hash of a leaf.
pub(super) fn leaf(body: &[u8]) -> Digest {
    Digest::of(&[&[0], body].concat())
}

fn node(left: &Digest, right: &Digest) -> Digest {
    Digest::of(&[&[1], &left.as_bytes()[..], &right.as_bytes()[..]].concat())
}

/// The root of the tree of `size` leaves that has this leaf at `index`, or none if the proof has a wrong length.
pub(super) fn root(leaf: Digest, index: u64, size: u64, proof: &[Digest]) -> Option<Digest> {
    let (mut place, mut last) = (index, size.checked_sub(1)?);
    if place > last {
        return None;
    }
    let mut hash = leaf;
    for sibling in proof {
        if last == 0 {
            return None;
        }
        if place & 1 == 1 || place == last {
            hash = node(sibling, &hash);
            // At the right edge, levels without a sibling are passed over.
            while place & 1 == 0 && place != 0 {
                place >>= 1;
                last >>= 1;
            }
        } else {
            hash = node(&hash, sibling);
        }
        place >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Root of the tree and path of one leaf in it, as RFC 6962 defines them, by recursion.
    fn tree(leaves: &[Digest], index: usize) -> (Digest, Vec<Digest>) {
        if leaves.len() == 1 {
            return (leaves[0], Vec::new());
        }
        let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
        let inner = |part: &[Digest], at| tree(part, at);
        if index < left.len() {
            let ((hash, mut path), (other, _)) = (inner(left, index), inner(right, 0));
            path.push(other);
            (node(&hash, &other), path)
        } else {
            let ((other, _), (hash, mut path)) = (inner(left, 0), inner(right, index - left.len()));
            path.push(other);
            (node(&other, &hash), path)
        }
    }

    #[test]
    fn proofs_hold_for_their_leaf_alone() {
        for size in 1..20usize {
            let leaves: Vec<_> = (0..size).map(|i| leaf(&[i as u8])).collect();
            for index in 0..size {
                let (expected, path) = tree(&leaves, index);
                let root = |index: usize, size: usize, path: &[Digest]| {
                    root(leaves[index % leaves.len()], index as u64, size as u64, path)
                };
                assert_eq!(root(index, size, &path), Some(expected), "{index} of {size}");
                assert_eq!(root(index + size, size, &path), None);
                assert_ne!(super::root(leaf(b"x"), index as u64, size as u64, &path), Some(expected));
                let longer = [&path[..], &[leaf(b"x")]].concat();
                assert_ne!(root(index, size, &longer), Some(expected));
                if !path.is_empty() {
                    assert_ne!(root(index, size, &path[1..]), Some(expected));
                }
            }
        }
        assert_eq!(root(leaf(b""), 0, 0, &[]), None);
    }
}
