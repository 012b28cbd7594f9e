//! A stock ticker: prices that wander at random, the same for the same seed.

/// Names with the price they begin at, in cents.
const STOCKS: [(&str, u64); 12] = [
    ("AAPL", 18_945),
    ("AMD", 15_825),
    ("AMZN", 18_210),
    ("GOOGL", 17_135),
    ("IBM", 17_455),
    ("INTC", 3_140),
    ("META", 50_360),
    ("MSFT", 41_520),
    ("NFLX", 65_590),
    ("NVDA", 12_080),
    ("ORCL", 13_985),
    ("TSLA", 24_875),
];

/// A new price of a stock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Update {
    pub(crate) ticker: &'static str,
    /// In cents.
    pub(crate) price: u64,
    /// As it is sent: `AAPL: 189.45`.
    pub(crate) text: String,
}

/// The first `count` updates that a seed gives.
pub(crate) fn updates(seed: u64, count: usize) -> Vec<Update> {
    let mut random = Random(seed);
    let mut prices = STOCKS.map(|(_, price)| price);
    (0..count)
        .map(|_| {
            let stock = random.below(STOCKS.len() as u64) as usize;
            let price = &mut prices[stock];
            // Up or down by at most a fifth of a percent, but at least a cent.
            let step = random.below(*price / 500 + 1) + 1;
            *price = if random.below(2) == 0 { *price + step } else { price.saturating_sub(step).max(100) };
            let ticker = STOCKS[stock].0;
            Update { ticker, price: *price, text: format!("{ticker}: {}", dollars(*price)) }
        })
        .collect()
}

/// Whether this is one of the stocks.
pub(crate) fn is_stock(name: &str) -> bool {
    STOCKS.iter().any(|(stock, _)| *stock == name)
}

/// `189.45` of 18945 cents.
pub(crate) fn dollars(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_updates() {
        assert_eq!(updates(7, 1_000), updates(7, 1_000));
        assert_ne!(updates(7, 1_000), updates(8, 1_000));
        let first = &updates(7, 1)[0];
        assert_eq!(first.text, format!("{}: {}", first.ticker, dollars(first.price)));
        assert_eq!(dollars(18_905), "189.05");
    }
}
