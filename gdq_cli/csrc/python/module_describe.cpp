#include <nanobind/stl/array.h>

#include <array>
#include <vector>

#include "module.h"
#include "network/describe.h"

namespace gdq {
namespace {

using Rectangles = Array<const int32_t, 2>;

// The cores of a picture, (y, x, height, width) each.
std::vector<Core> read_cores(const Picture<const uint8_t>& image, const Rectangles& cores) {
    check(image, "image", {-1, -1, 3}), check(cores, "cores", {-1, 4});
    std::vector<Core> found(cores.shape(0));
    for (size_t i = 0; i < found.size(); i++) {
        const Region r = read_core(cores, "cores", static_cast<int>(i), length(image, 0), length(image, 1));
        found[i] = {image.data() + r.y0 * image.stride(0) + r.x0 * image.stride(1), image.stride(0), image.stride(1),
                    image.stride(2), r.y1 - r.y0, r.x1 - r.x0};
        if (static_cast<int64_t>(found[i].height) * found[i].width > kMostPixels)
            throw std::invalid_argument("cores: more than 2^26 pixels in one patch");
    }
    return found;
}

void texture_sums(const Texture& texture, const Picture<const uint8_t>& image, const Rectangles& cores, const Array<int64_t, 3>& out,
                  int threads) {
    check_threads(threads);
    const std::vector<Core> found = read_cores(image, cores);
    const int count = length(cores, 0);
    check(out, "out", {count, 3, texture.features()});
    const nb::gil_scoped_release unlocked;
    each_on_threads(count, threads, [&](int i) {
        texture.sums(found[i], out.data() + static_cast<ptrdiff_t>(i) * 3 * texture.features());
    });
}

void sum_greys(const Array<const double, 2>& kernel, const Picture<const uint8_t>& image, const Rectangles& cores,
               const Array<double, 2>& out, int threads) {
    check_threads(threads);
    const std::vector<Core> found = read_cores(image, cores);
    const int count = length(cores, 0);
    check(kernel, "kernel", {kGreyNodes, kBins}), check(out, "out", {count, kBins});
    const nb::gil_scoped_release unlocked;
    each_on_threads(count, threads, [&](int i) {
        grey_sums(found[i], kernel.data(), out.data() + static_cast<ptrdiff_t>(i) * kBins);
    });
}

}  // namespace

Region read_core(const Rectangles& cores, const char* name, int i, int height, int width) {
    const int32_t* core = cores.data() + 4 * static_cast<ptrdiff_t>(i);
    if (core[0] < 0 || core[1] < 0 || core[2] < 1 || core[3] < 1 || core[2] > height - core[0] || core[3] > width - core[1])
        throw std::invalid_argument(std::string(name) + ": rectangle " + std::to_string(i) + " does not lie in the picture");
    return {core[0], core[0] + core[2], core[1], core[1] + core[3]};
}

void check_threads(int threads) {
    if (threads < 1 || threads > 1024) throw std::invalid_argument("threads must be 1 to 1024");
}

void bind_describe(nb::module_& m) {
    nb::class_<Texture>(m, "Texture")
        .def("__init__", [](Texture* self, const char* isa, const Array<const int16_t, 4>& weight, std::array<int, 3> mean) {
                check(weight, "weight", {-1, 3, 3, 3});
                if (weight.shape(0) < 1) throw std::invalid_argument("weight: needs at least one channel");
                new (self) Texture(kernels_named(isa), weight.data(), length(weight, 0), mean.data());
            }, nb::arg("isa"), array("weight"), nb::arg("mean"))
        .def("sums", texture_sums, array("image"), array("cores"), array("out"), nb::arg("threads"));
    m.def("grey_sums", sum_greys, array("kernel"), array("image"), array("cores"), array("out"), nb::arg("threads"));
}

}  // namespace gdq
