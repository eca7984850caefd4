pub mod basehub;
