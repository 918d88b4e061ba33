//! The smallest seccomp filter that decides about system call numbers as another one does.

use pidone::seccomp::{Filter, SeccompData, evaluate};

use crate::Result;

/// `AUDIT_ARCH_X86_64` and `AUDIT_ARCH_I386`.
const ARCHITECTURES: [u32; 2] = [0xc000_003e, 0x4000_0003];

/// Where system call numbers begin: native ones, and those of x32.
const NUMBERS: [u32; 2] = [0, 0x4000_0000];
/// How many numbers are examined; all above them have the same decision.
const COUNT: u32 = 1000;

/// `SECCOMP_RET_KILL_THREAD`, the decision for any other architecture.
const KILL: u32 = 0;

/// An instruction, a `struct sock_filter`.
type Instruction = [u8; 8];

/// Compiles the decisions of a filter about numbers to balanced trees over their ranges.
///
/// Conditions on arguments are left out, so a filter with the same decisions cannot be smaller.
///
/// # Errors
/// If the kernel would not accept the filter.
pub fn smallest(filter: &Filter) -> Result<Vec<u8>> {
    let program = filter.bytes();
    let mut code = vec![load(4)];
    for arch in ARCHITECTURES {
        let tree = Tree::compile(&ranges(&program, arch)?)?;
        // The check for the next architecture follows the tree, too far for a conditional jump.
        code.push(instruction(0x15, 1, 0, arch));
        code.push(instruction(0x05, 0, 0, u32::try_from(tree.len() + 1)?));
        code.push(load(0));
        code.extend(tree);
    }
    code.push(instruction(0x06, 0, 0, KILL));
    Ok(code.concat())
}

/// Returns the numbers at which the decision changes, each with the decision from there on.
fn ranges(program: &[u8], arch: u32) -> Result<Vec<(u32, u32)>> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for first in NUMBERS {
        for nr in first..first + COUNT {
            let data = SeccompData { nr, arch, ip: 0, args: [0; 6] };
            let decision = evaluate(program, &data)?;
            if ranges.last().is_none_or(|(_, last)| *last != decision) {
                ranges.push((nr, decision));
            }
        }
    }
    Ok(ranges)
}

/// A binary search for the range of the number in the accumulator: comparisons, followed by each
/// decision once.
#[derive(Default)]
struct Tree {
    comparisons: Vec<(u32, [Target; 2])>,
    decisions: Vec<u32>,
}

/// Where a comparison jumps, as an index into the comparisons or the decisions.
#[derive(Clone, Copy)]
enum Target {
    Comparison(usize),
    Decision(usize),
}

impl Tree {
    /// Compiles the tree for some ranges.
    fn compile(ranges: &[(u32, u32)]) -> Result<Vec<Instruction>> {
        let mut tree = Self::default();
        tree.add(ranges)?;
        let count = tree.comparisons.len();
        let index = |target| match target {
            Target::Comparison(index) => index,
            Target::Decision(index) => count + index,
        };
        let mut code = Vec::with_capacity(count + tree.decisions.len());
        for (current, (border, targets)) in tree.comparisons.iter().enumerate() {
            let [below, above] = targets.map(|target| u8::try_from(index(target) - current - 1));
            code.push(instruction(0x35, above?, below?, *border));
        }
        code.extend(tree.decisions.iter().map(|decision| instruction(0x06, 0, 0, *decision)));
        Ok(code)
    }

    /// Adds the subtree for some ranges. Returns where to jump to enter it.
    fn add(&mut self, ranges: &[(u32, u32)]) -> Result<Target> {
        if let [(_, decision)] = ranges {
            let known = self.decisions.iter().position(|other| other == decision);
            return Ok(Target::Decision(known.unwrap_or_else(|| {
                self.decisions.push(*decision);
                self.decisions.len() - 1
            })));
        }
        let (below, above) = ranges.split_at(ranges.len() / 2);
        let Some((border, _)) = above.first() else { return Err("no decision at all".into()) };
        // Jumps only lead forward, so a comparison precedes its targets.
        let index = self.comparisons.len();
        self.comparisons.push((*border, [Target::Comparison(index); 2]));
        let targets = [self.add(below)?, self.add(above)?];
        if let Some((_, jumps)) = self.comparisons.get_mut(index) {
            *jumps = targets;
        }
        Ok(Target::Comparison(index))
    }
}

/// Returns the instruction that loads a word of `struct seccomp_data`.
fn load(offset: u32) -> Instruction {
    instruction(0x20, 0, 0, offset)
}

/// Returns a `struct sock_filter`.
fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
    let ([c0, c1], [k0, k1, k2, k3]) = (code.to_ne_bytes(), k.to_ne_bytes());
    [c0, c1, jt, jf, k0, k1, k2, k3]
}

#[cfg(test)]
mod tests {
    use pidone::oci::linux::seccomp::Seccomp;

    use super::*;

    #[test]
    fn smallest_filter_of_the_docker_profile_decides_by_number_like_the_whole_one() {
        let text = include_bytes!("../../shim/host/tests/seccomp/docker-default.json");
        let profile: Seccomp = serde_json::from_slice(text).unwrap();
        let filter = pidone::seccomp::compile(&profile.profile().unwrap().unwrap()).unwrap();
        let (whole, smallest) = (filter.bytes(), smallest(&filter).unwrap());
        assert!(smallest.len() <= whole.len());
        for arch in ARCHITECTURES.into_iter().chain([0xc000_00b7]) {
            for nr in NUMBERS.into_iter().flat_map(|first| first..first + COUNT) {
                let data = SeccompData { nr, arch, ip: 0, args: [0; 6] };
                let decisions = [&whole, &smallest].map(|code| evaluate(code, &data));
                assert_eq!(decisions[0], decisions[1], "{nr} of {arch:x}");
            }
        }
    }
}
