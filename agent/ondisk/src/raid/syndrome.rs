//! Parity: giving back what one or two members of a row held.
//!
//! P is the sum (exclusive or) of all data. RAID 6's Q is the sum of g^i times the data of member i, in the field of 256
//! elements with the polynomial 0x11d and g = 2.

use super::Row;

/// The field's polynomial without its highest bit.
const POLYNOMIAL: u8 = 0x1d;

fn double(value: u8) -> u8 {
    value.wrapping_shl(1) ^ if value & 0x80 == 0 { 0 } else { POLYNOMIAL }
}

/// The product of two elements of the field.
pub fn multiply(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    while b != 0 {
        if b & 1 == 1 {
            product ^= a;
        }
        a = double(a);
        b >>= 1;
    }
    product
}

/// 2 to the power of `exponent`, in the field.
pub fn power(exponent: usize) -> u8 {
    (0..exponent.checked_rem(255).unwrap_or(0)).fold(1, |value, _| double(value))
}

/// The element that multiplied with `value` is 1; 0 has none and gives 0.
fn inverse(value: u8) -> u8 {
    (0..253).fold(value, |product, _| multiply(product, value))
}

fn scale(bytes: &mut [u8], factor: u8) {
    let mut table = [0; 256];
    (0..=255).zip(&mut table).for_each(|(value, entry)| *entry = multiply(value, factor));
    bytes.iter_mut().for_each(|byte| *byte = table.get(usize::from(*byte)).copied().unwrap_or_default());
}

fn add(sum: &mut [u8], bytes: &[u8]) {
    sum.iter_mut().zip(bytes).for_each(|(sum, byte)| *sum ^= byte);
}

/// The bytes of each role, `None` where they are not known; all of the same length.
type Known<'a> = &'a [Option<&'a [u8]>];

impl Row {
    /// The bytes of role `wanted` from those of the others; `None` when too few are known. What is known of `wanted` itself
    /// is not looked at.
    pub fn rebuild(&self, wanted: usize, known: Known<'_>) -> Option<Vec<u8>> {
        let length = known.iter().enumerate().find_map(|(role, bytes)| bytes.filter(|_| role != wanted))?.len();
        let lost: Vec<usize> = self.data().filter(|role| *role == wanted || bytes_of(known, *role).is_none()).collect();
        let p = bytes_of(known, self.p).filter(|_| wanted != self.p);
        let q = self.q.and_then(|q| bytes_of(known, q)).filter(|_| self.q != Some(wanted));
        match (lost.as_slice(), p, q) {
            ([], _, _) if wanted == self.p => Some(self.sum(known, &[], length)),
            ([], _, _) => Some(self.weighted_sum(known, &[], length)),
            ([_], Some(p), _) if self.is_data(wanted) => Some(added(self.sum(known, &lost, length), p)),
            ([one], None, Some(q)) => self.by_q(wanted, *one, known, q, length),
            ([one], Some(p), _) => {
                // Q itself is wanted: first the lost data, then Q over all of them.
                let data = added(self.sum(known, &lost, length), p);
                let mut q = self.weighted_sum(known, &lost, length);
                add(&mut q, &self.weighted(*one, data));
                Some(q)
            }
            ([one, two], Some(p), Some(q)) => self.by_both(wanted, (*one, *two), known, (p, q)),
            _ => None,
        }
    }

    /// One lost data member, without P.
    fn by_q(&self, wanted: usize, lost: usize, known: Known<'_>, q: &[u8], length: usize) -> Option<Vec<u8>> {
        let mut data = added(self.weighted_sum(known, &[lost], length), q);
        scale(&mut data, inverse(power(self.index(lost)?)));
        if wanted == lost {
            return Some(data);
        }
        add(&mut data, &self.sum(known, &[lost], length));
        (wanted == self.p).then_some(data)
    }

    /// Two lost data members: P says what they add up to, Q what they add up to when weighted.
    fn by_both(
        &self,
        wanted: usize,
        (one, two): (usize, usize),
        known: Known<'_>,
        (p, q): (&[u8], &[u8]),
    ) -> Option<Vec<u8>> {
        let other = if wanted == one { two } else { one };
        if wanted != one && wanted != two {
            return None;
        }
        let (weight, other_weight) = (power(self.index(wanted)?), power(self.index(other)?));
        let mut data = added(self.sum(known, &[one, two], p.len()), p);
        scale(&mut data, other_weight);
        add(&mut data, q);
        add(&mut data, &self.weighted_sum(known, &[one, two], p.len()));
        scale(&mut data, inverse(weight ^ other_weight));
        Some(data)
    }

    fn is_data(&self, role: usize) -> bool {
        role != self.p && Some(role) != self.q
    }

    /// Place of a data role in Q's count.
    fn index(&self, role: usize) -> Option<usize> {
        self.data().position(|data| data == role)
    }

    fn weighted(&self, role: usize, mut bytes: Vec<u8>) -> Vec<u8> {
        scale(&mut bytes, power(self.index(role).unwrap_or(0)));
        bytes
    }

    /// Sum of the data of all roles but `without`.
    fn sum(&self, known: Known<'_>, without: &[usize], length: usize) -> Vec<u8> {
        let mut sum = vec![0; length];
        for role in self.data().filter(|role| !without.contains(role)) {
            add(&mut sum, bytes_of(known, role).unwrap_or_default());
        }
        sum
    }

    /// The same, each weighted for Q.
    fn weighted_sum(&self, known: Known<'_>, without: &[usize], length: usize) -> Vec<u8> {
        let mut sum = vec![0; length];
        // From the highest weight down, doubling on the way.
        for role in self.data().rev() {
            sum.iter_mut().for_each(|byte| *byte = double(*byte));
            if !without.contains(&role) {
                add(&mut sum, bytes_of(known, role).unwrap_or_default());
            }
        }
        sum
    }
}

fn added(mut sum: Vec<u8>, bytes: &[u8]) -> Vec<u8> {
    add(&mut sum, bytes);
    sum
}

fn bytes_of<'a>(known: Known<'a>, role: usize) -> Option<&'a [u8]> {
    known.get(role).copied().flatten()
}
