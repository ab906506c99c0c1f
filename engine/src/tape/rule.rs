//! Backward rules in memory that is used again: a step of a network records the same operations as the one before.

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::HashMap;

use super::Grad;

/// Slots without a rule that a thread keeps at most, of each type.
const MOST: usize = 1024;

thread_local! {
    static KEPT: RefCell<HashMap<TypeId, Vec<Box<dyn Refillable>>>> = RefCell::new(HashMap::new());
}

/// Why there is a rule.
const HELD: &str = "it is taken out only as the owner is dropped";

/// Memory for a rule of one type.
trait Refillable: Any + Send + Sync {
    fn rule(&self) -> &dyn Grad;
    fn empty(&mut self);
}

impl<G: Grad + 'static> Refillable for Option<G> {
    fn rule(&self) -> &dyn Grad {
        self.as_ref().expect(HELD)
    }

    fn empty(&mut self) {
        *self = None;
    }
}

/// A backward rule.
pub(super) struct Rule(Option<Box<dyn Refillable>>);

impl Rule {
    pub fn new<G: Grad + 'static>(rule: G) -> Self {
        let kept = KEPT.try_with(|kept| kept.borrow_mut().get_mut(&TypeId::of::<Option<G>>()).and_then(Vec::pop));
        let Some(mut slot) = kept.ok().flatten() else { return Self(Some(Box::new(Some(rule)))) };
        let any: &mut dyn Any = &mut *slot;
        *any.downcast_mut().expect("kept under its type") = Some(rule);
        Self(Some(slot))
    }

    pub fn get(&self) -> &dyn Grad {
        self.0.as_ref().expect(HELD).rule()
    }
}

impl Drop for Rule {
    fn drop(&mut self) {
        let Some(mut slot) = self.0.take() else { return };
        slot.empty();
        let of = (&*slot as &dyn Any).type_id();
        // Where the thread ends, what it keeps has gone before.
        let _ = KEPT.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            let kept = kept.entry(of).or_default();
            if kept.len() < MOST {
                kept.push(slot);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use hotad_kernels::device::Buffer;
    use smallvec::smallvec;

    use super::*;
    use crate::error::Result;
    use crate::tape::InputGradients;

    struct Passes<const N: usize>([u64; N]);

    impl<const N: usize> Grad for Passes<N> {
        fn backward(&self, grad: Buffer, _: &[bool]) -> Result<InputGradients> {
            Ok(smallvec![Some(grad); N])
        }
    }

    fn inputs(rule: &Rule) -> usize {
        rule.get().backward(Buffer::Host(vec![1.0].into()), &[]).expect("passed on").len()
    }

    #[test]
    fn memory_is_used_again_by_rules_of_its_type() {
        let place = |rule: &Rule| std::ptr::from_ref(rule.get()).cast::<u8>() as usize;
        let (one, other) = (Rule::new(Passes([1])), Rule::new(Passes([1, 2])));
        assert_eq!((inputs(&one), inputs(&other)), (1, 2));
        let places = [place(&one), place(&other)];
        drop((one, other));
        let (other, one) = (Rule::new(Passes([3, 4])), Rule::new(Passes([5])));
        assert_eq!([place(&one), place(&other)], places);
        assert_eq!((inputs(&one), inputs(&other)), (1, 2));
    }
}
