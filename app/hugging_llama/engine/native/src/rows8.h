/* Rows of activations as int8 with one scale for every `group` of inputs, made anew for each call. */
#pragma once

#include <stdint.h>

#include "linear.h"

struct rows8 {
    int64_t k;        /* inputs of a row, padded with zeros to whole groups */
    int64_t group;    /* inputs that share a scale; a multiple of 4 */
    int8_t *values;   /* [m, k] in [-127, 127] */
    float *scales;    /* [m, k / group]; NaN or infinity where the row has one */
    int32_t *offsets; /* [m, k / group], what to start a sum with that uses unsigned weights */
};

/* Scale = largest magnitude / 127, symmetric, to nearest. Weights are kept as weight + `zero`, so an offset is -zero
 * times the sum of its values. Free with `free_rows8`. Returns 0 without memory. */
int make_rows8(struct rows8 *rows, const struct linear *job, int64_t padded_k, int64_t group, int32_t zero);
void free_rows8(struct rows8 *rows);
