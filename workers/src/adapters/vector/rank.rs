use std::{
    cmp::Ordering,
    collections::{BinaryHeap, HashMap},
};

use toolgate_events::tools::VectorMetric;

/// Products that are added up side by side, as wide as processors can.
const LANES: usize = 16;
/// Reciprocal rank fusion: Cormack, Clarke and Büttcher, SIGIR 2009.
const RANK_OFFSET: f64 = 60.0;

/// An item and how well it does. The better comes first; of equals, the one with the smaller id in byte order.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranked {
    pub id: String,
    pub score: f64,
}

impl Eq for Ranked {}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        order((self.score, &self.id), (other.score, &other.id))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn order((score, id): (f64, &str), (other_score, other_id): (f64, &str)) -> Ordering {
    other_score.total_cmp(&score).then_with(|| id.cmp(other_id))
}

/// The best of all that it was shown.
#[derive(Debug)]
pub struct Best {
    depth: usize,
    heap: BinaryHeap<Ranked>,
}

impl Best {
    pub fn new(depth: usize) -> Self {
        Self { depth, heap: BinaryHeap::with_capacity(depth + 1) }
    }

    pub fn show(&mut self, id: &str, score: f64) {
        if self.heap.len() == self.depth {
            let is_better = |last: &Ranked| order((score, id), (last.score, &last.id)).is_lt();
            if !self.heap.peek().is_some_and(is_better) {
                return;
            }
            self.heap.pop();
        }
        self.heap.push(Ranked { id: id.to_owned(), score });
    }

    /// Best first.
    pub fn into_ranking(self) -> Vec<Ranked> {
        self.heap.into_sorted_vec()
    }
}

/// Compares one vector with many.
#[derive(Debug)]
pub struct Comparison {
    metric: VectorMetric,
    vector: Vec<f32>,
    length: f64,
}

impl Comparison {
    pub fn new(metric: VectorMetric, vector: Vec<f32>) -> Self {
        let length = f64::from(dot(&vector, &vector)).sqrt();
        Self { metric, vector, length }
    }

    pub fn dimensions(&self) -> usize {
        self.vector.len()
    }

    /// Higher is more alike.
    pub fn score(&self, other: &[f32]) -> f64 {
        let product = f64::from(dot(&self.vector, other));
        match self.metric {
            VectorMetric::Dot => product,
            // Rounding may lead a little beyond.
            VectorMetric::Cosine => (product / (self.length * f64::from(dot(other, other)).sqrt())).clamp(-1.0, 1.0),
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// One ranking of two: the score is the sum of 1 / (60 + rank) over those that an item is in.
pub fn fuse(one: &[Ranked], other: &[Ranked]) -> Vec<Ranked> {
    let mut scores: HashMap<&str, f64> = HashMap::new();
    for ranking in [one, other] {
        for (rank, hit) in (1_u32..).zip(ranking) {
            *scores.entry(&hit.id).or_default() += 1.0 / (RANK_OFFSET + f64::from(rank));
        }
    }
    let mut fused: Vec<_> = scores.into_iter().map(|(id, score)| Ranked { id: id.to_owned(), score }).collect();
    fused.sort();
    fused
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that look random and are the same every time (Steele, Lea and Flood, OOPSLA 2014).
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }

        fn vector(&mut self, dimensions: usize) -> Vec<f32> {
            (0..dimensions).map(|_| i16::try_from(self.next() % 2_001).unwrap() - 1_000).map(|n| f32::from(n) / 64.0).collect()
        }
    }

    fn naive(metric: VectorMetric, a: &[f32], b: &[f32]) -> f64 {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        match metric {
            VectorMetric::Dot => dot(a, b),
            VectorMetric::Cosine => dot(a, b) / (dot(a, a).sqrt() * dot(b, b).sqrt()),
        }
    }

    #[test]
    fn a_ranking_is_that_of_comparing_one_by_one() {
        let mut numbers = Numbers(7);
        for round in 0..200 {
            let dimensions = 1 + usize::try_from(numbers.next() % 70).unwrap();
            let metric = if round % 2 == 0 { VectorMetric::Cosine } else { VectorMetric::Dot };
            let question = numbers.vector(dimensions);
            let items: Vec<_> = (0..numbers.next() % 50).map(|id| (id.to_string(), numbers.vector(dimensions))).collect();
            let items: Vec<_> = items.into_iter().filter(|(_, vector)| vector.iter().any(|n| *n != 0.0)).collect();
            let comparison = Comparison::new(metric, question.clone());
            let depth = 1 + usize::try_from(numbers.next() % 60).unwrap();
            let mut best = Best::new(depth);
            items.iter().for_each(|(id, vector)| best.show(id, comparison.score(vector)));
            let ranking = best.into_ranking();
            assert_eq!(ranking.len(), depth.min(items.len()));
            let mut expected: Vec<_> = items.iter().map(|(_, vector)| naive(metric, &question, vector)).collect();
            expected.sort_by(|a, b| b.total_cmp(a));
            for (hit, expected) in ranking.iter().zip(expected) {
                let (_, vector) = items.iter().find(|(id, _)| *id == hit.id).unwrap();
                for reference in [expected, naive(metric, &question, vector)] {
                    assert!((hit.score - reference).abs() <= 1e-5 * reference.abs().max(1.0), "{hit:?} {reference}");
                }
            }
        }
    }

    fn ranking(ids: &str) -> Vec<Ranked> {
        ids.chars().map(|id| Ranked { id: id.to_string(), score: 0.0 }).collect()
    }

    #[test]
    fn of_equals_the_smaller_id_is_first_and_stays() {
        for order in ["abc", "cab", "bca"] {
            let mut best = Best::new(2);
            order.chars().for_each(|id| best.show(&id.to_string(), 1.0));
            assert_eq!(best.into_ranking().iter().map(|hit| hit.id.as_str()).collect::<String>(), "ab", "{order}");
        }
    }

    #[test]
    fn who_is_in_both_rankings_is_before_who_is_in_one() {
        let fused = fuse(&ranking("abc"), &ranking("dc"));
        assert_eq!(fused.iter().map(|hit| hit.id.as_str()).collect::<String>(), "cadb");
        assert!((fused[0].score - (1.0 / 63.0 + 1.0 / 62.0)).abs() < 1e-12);
        assert_eq!(fused[1].score.total_cmp(&fused[2].score), Ordering::Equal);
    }
}
