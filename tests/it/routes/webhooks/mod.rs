mod basehub;
