//! A filter that decides as another one does, as small as it can be written by hand.

use pidone::seccomp::{Filter, SeccompData, evaluate};

use crate::Result;

/// `AUDIT_ARCH_X86_64` and `AUDIT_ARCH_I386`: what the kernel calls the architectures.
const ARCHITECTURES: [u32; 2] = [0xc000_003e, 0x4000_0003];

/// Numbers of system calls: of the machine, and with the bit of x32. What is above the first
/// thousand is decided alike.
const NUMBERS: [u32; 2] = [0, 0x4000_0000];
const COUNT: u32 = 1000;

/// What `SECCOMP_RET_KILL_THREAD` is for calls of any other architecture.
const KILL: u32 = 0;

/// Eight bytes of an instruction.
type Instruction = [u8; 8];

/// The decisions of a filter about numbers alone, as balanced trees over ranges of them: what it
/// says of arguments is left out, so that no filter that does the same can be smaller.
///
/// # Errors
/// The filter is none that the kernel would take.
pub fn smallest(filter: &Filter) -> Result<Vec<u8>> {
    let program = filter.bytes();
    let mut code = vec![load(4)];
    for arch in ARCHITECTURES {
        let tree = Tree::over(&ranges(&program, arch)?)?;
        // Another architecture is behind the tree, too far for a conditional jump.
        code.push(instruction(0x15, 1, 0, arch));
        code.push(instruction(0x05, 0, 0, u32::try_from(tree.len() + 1)?));
        code.push(load(0));
        code.extend(tree);
    }
    code.push(instruction(0x06, 0, 0, KILL));
    Ok(code.concat())
}

/// Where decisions change, and to what.
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

/// A search for the range of the number in the accumulator: comparisons, and behind them each
/// decision once.
#[derive(Default)]
struct Tree {
    comparisons: Vec<(u32, [Target; 2])>,
    decisions: Vec<u32>,
}

/// Where a comparison leads, by its place among its kind.
#[derive(Clone, Copy)]
enum Target {
    Comparison(usize),
    Decision(usize),
}

impl Tree {
    fn over(ranges: &[(u32, u32)]) -> Result<Vec<Instruction>> {
        let mut tree = Self::default();
        tree.add(ranges)?;
        let count = tree.comparisons.len();
        let place = |target| match target {
            Target::Comparison(place) => place,
            Target::Decision(place) => count + place,
        };
        let mut code = Vec::with_capacity(count + tree.decisions.len());
        for (own, (border, targets)) in tree.comparisons.iter().enumerate() {
            let [below, above] = targets.map(|target| u8::try_from(place(target) - own - 1));
            code.push(instruction(0x35, above?, below?, *border));
        }
        code.extend(tree.decisions.iter().map(|decision| instruction(0x06, 0, 0, *decision)));
        Ok(code)
    }

    /// Adds what finds one of some ranges.
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
        // Every jump leads forward, so that it stands before what it leads to.
        let own = self.comparisons.len();
        self.comparisons.push((*border, [Target::Comparison(own); 2]));
        let targets = [self.add(below)?, self.add(above)?];
        if let Some((_, place)) = self.comparisons.get_mut(own) {
            *place = targets;
        }
        Ok(Target::Comparison(own))
    }
}

/// Loads a word of `struct seccomp_data`.
fn load(offset: u32) -> Instruction {
    instruction(0x20, 0, 0, offset)
}

/// The kernel's `struct sock_filter`.
fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
    let ([c0, c1], [k0, k1, k2, k3]) = (code.to_ne_bytes(), k.to_ne_bytes());
    [c0, c1, jt, jf, k0, k1, k2, k3]
}

#[cfg(test)]
mod tests {
    use pidone::oci::linux::seccomp::Seccomp;

    use super::*;

    #[test]
    fn the_smallest_filter_decides_by_number_as_the_other() {
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
