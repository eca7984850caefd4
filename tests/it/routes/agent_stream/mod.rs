mod post;
mod post_interrupted;
