/* FAISS's distance kernels, replaced by ours at link time.
 *
 * Debian builds FAISS for baseline x86-64 (SSE2), where it spends nearly all of a search. Its
 * scanners, coarse quantizers and k-means call these few functions across object files, so the
 * linker can redirect the calls: CMakeLists.txt passes -Wl,--wrap=<symbol> for each, which turns an
 * undefined reference to <symbol> into one to __wrap_<symbol>, defined here. A call from within the
 * object file that defines the symbol is not redirected, which is why the _ny forms, which loop
 * over the plain ones inside that file, are wrapped too. FAISS's own versions stay in the program
 * as __real_<symbol>, and CAIRN_WRAP_FAISS=OFF links them as if this file were not there.
 *
 * The names are the C++ mangling of
 *   float faiss::fvec_inner_product(const float *, const float *, size_t)
 *   float faiss::fvec_L2sqr(const float *, const float *, size_t)
 *   void faiss::fvec_inner_products_ny(float *, const float *, const float *, size_t, size_t)
 *   void faiss::fvec_L2sqr_ny(float *, const float *, const float *, size_t, size_t)
 * which is fixed by the platform's C++ ABI; tests/unit/test_faiss_wrap.c fails if a FAISS release
 * stops calling them. */
#include "index/kernels.h"

enum { ROWS_AT_ONCE = 32 };

float __wrap__ZN5faiss18fvec_inner_productEPKfS1_m(const float *x, const float *y, size_t dim);
float __wrap__ZN5faiss10fvec_L2sqrEPKfS1_m(const float *x, const float *y, size_t dim);
void __wrap__ZN5faiss22fvec_inner_products_nyEPfPKfS2_mm(float *out, const float *x, const float *y,
                                                         size_t dim, size_t count);
void __wrap__ZN5faiss13fvec_L2sqr_nyEPfPKfS2_mm(float *out, const float *x, const float *y,
                                                size_t dim, size_t count);

float __wrap__ZN5faiss18fvec_inner_productEPKfS1_m(const float *x, const float *y, size_t dim)
{
    return cairn_kernels->dot(x, y, dim);
}

float __wrap__ZN5faiss10fvec_L2sqrEPKfS1_m(const float *x, const float *y, size_t dim)
{
    return cairn_kernels->l2sq(x, y, dim);
}

static void each_row(void (*many)(const float *, const float *const *, size_t, size_t, float *),
                     float *out, const float *x, const float *y, size_t dim, size_t count)
{
    const float *rows[ROWS_AT_ONCE];
    for (size_t done = 0; done < count;) {
        size_t take = count - done < ROWS_AT_ONCE ? count - done : ROWS_AT_ONCE;
        for (size_t i = 0; i < take; i++)
            rows[i] = y + (done + i) * dim;
        many(x, rows, take, dim, out + done);
        done += take;
    }
}

void __wrap__ZN5faiss22fvec_inner_products_nyEPfPKfS2_mm(float *out, const float *x, const float *y,
                                                         size_t dim, size_t count)
{
    each_row(cairn_kernels->dot_many, out, x, y, dim, count);
}

void __wrap__ZN5faiss13fvec_L2sqr_nyEPfPKfS2_mm(float *out, const float *x, const float *y,
                                                size_t dim, size_t count)
{
    each_row(cairn_kernels->l2sq_many, out, x, y, dim, count);
}
