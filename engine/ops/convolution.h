/* convolution.h: what convolutions and filters share: lists an axis, and the bilinear maps of convolution.c. */
#ifndef PL_OPS_CONVOLUTION_H
#define PL_OPS_CONVOLUTION_H

#include "../op.h"

/* Up to three numbers, of the last axes; the axes before them have size 1. */
typedef struct {
  int64_t at[3];
} pl_triple;
static const pl_triple zeros = {{0, 0, 0}}, ones = {{1, 1, 1}};

/* Numbers of an attribute, one for all axes or one an axis, each at least `least`; `standard` for axes that are not
 * there, and `missing` where it is not given. False, and the error set, where they are none. */
bool pl_triple_of(const pl_call *call, int attr, int axes, int64_t least, int64_t standard, pl_triple missing,
                  pl_triple *out);
/* As pl_shape_error, with a format. */
void pl_window_error(const pl_call *call, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Results of a window (with its gaps) along an axis of the last `axes`; -1, and the error set, where it is longer. */
int64_t pl_window_count(const pl_call *call, int axes, int d, int64_t window, int64_t dilation, int64_t stride,
                        int64_t padding);
/* x {...} as {first, second, its last `axes`} with 1 in front of them. */
pl_value pl_as_images(pl_context *c, pl_value x, int axes, int64_t first, int64_t second);
/* conv, conv_input or conv_weights (convolution.c). */
pl_value pl_convolution(pl_context *c, const pl_op *op, pl_value p, pl_value q, pl_triple stride, pl_triple before,
                        pl_triple dilation, pl_triple sizes, int64_t groups);

#endif
