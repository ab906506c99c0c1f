//! Formulas over maps, written as formulas.

use std::ops::{Add, Div, Mul, Neg, Sub};

use super::graph::GraphValue;

/// The operator `$trait` between maps and numbers, whether borrowed or not.
macro_rules! operator {
    ($trait:ident, $method:ident) => {
        operator!($trait, $method, GraphValue, GraphValue);
        operator!($trait, $method, GraphValue, &GraphValue);
        operator!($trait, $method, &GraphValue, GraphValue);
        operator!($trait, $method, &GraphValue, &GraphValue);
        impl $trait<f32> for GraphValue {
            type Output = GraphValue;
            fn $method(self, other: f32) -> GraphValue {
                self.with(stringify!($trait), &self.number(other))
            }
        }
        impl $trait<f32> for &GraphValue {
            type Output = GraphValue;
            fn $method(self, other: f32) -> GraphValue {
                self.with(stringify!($trait), &self.number(other))
            }
        }
        impl $trait<GraphValue> for f32 {
            type Output = GraphValue;
            fn $method(self, other: GraphValue) -> GraphValue {
                other.number(self).with(stringify!($trait), &other)
            }
        }
        impl $trait<&GraphValue> for f32 {
            type Output = GraphValue;
            fn $method(self, other: &GraphValue) -> GraphValue {
                other.number(self).with(stringify!($trait), other)
            }
        }
    };
    ($trait:ident, $method:ident, $left:ty, $right:ty) => {
        impl $trait<$right> for $left {
            type Output = GraphValue;
            fn $method(self, other: $right) -> GraphValue {
                #[allow(clippy::needless_borrow)] // one of the four is borrowed already
                self.with(stringify!($trait), &other)
            }
        }
    };
}

operator!(Add, add);
operator!(Sub, sub);
operator!(Mul, mul);
operator!(Div, div);

impl Neg for GraphValue {
    type Output = GraphValue;
    fn neg(self) -> GraphValue {
        self.each("Neg", vec![])
    }
}

impl GraphValue {
    /// A function of one number.
    pub(super) fn apply(&self, function: &str) -> GraphValue {
        self.each(function, vec![])
    }

    /// To a power.
    pub(super) fn power(&self, exponent: f32) -> GraphValue {
        self.with("Pow", &self.number(exponent))
    }

    /// The larger of it and a number.
    pub(super) fn at_least(&self, low: f32) -> GraphValue {
        self.with("Max", &self.number(low))
    }

    /// The smaller of it and a number.
    pub(super) fn at_most(&self, high: f32) -> GraphValue {
        self.with("Min", &self.number(high))
    }

    /// `then` where it compares so with a number (`Greater`, `Less`, `Equal`), else `otherwise`.
    pub(super) fn select(
        &self,
        comparison: &str,
        number: f32,
        then: &GraphValue,
        otherwise: &GraphValue,
    ) -> GraphValue {
        let condition = self.with(comparison, &self.number(number));
        let shape = std::array::from_fn(|i| condition.shape[i].max(then.shape[i]).max(otherwise.shape[i]));
        self.graph().node("Where", &[condition.name(), then.name(), otherwise.name()], vec![], shape)
    }
}
