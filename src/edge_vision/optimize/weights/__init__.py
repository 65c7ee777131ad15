"""What is done to the weights of single layers: zeros, few shared values, factors of low rank.

* `selection`: which layers;
* `sparsity`: which weights become zero;
* `clusters`: few values for many weights;
* `factors`, `ranks`, `replacing`: a layer as two or three thinner ones.
"""
