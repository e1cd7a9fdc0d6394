#include <string>
#include <vector>

#include "buffers.h"
#include "module.h"
#include "network/describe.h"

namespace gdq {
namespace {

constexpr char kTextureName[] = "gdq_cli._kernels.texture";

// The cores of a picture, (y, x, height, width) each.
std::vector<Core> read_cores(const Buffer& image, const Buffer& cores) {
    require(image && cores, "image or cores");
    std::vector<Core> found(cores.size(0));
    for (size_t i = 0; i < found.size(); i++) {
        const Region r = read_core(cores, "cores", static_cast<int>(i), image.size(0), image.size(1));
        found[i] = {image.as<uint8_t>() + r.y0 * image.stride(0) + r.x0 * image.stride(1), image.stride(0), image.stride(1),
                    image.stride(2), r.y1 - r.y0, r.x1 - r.x0};
        if (static_cast<int64_t>(found[i].height) * found[i].width > kMostPixels)
            throw std::invalid_argument("cores: more than 2^26 pixels in one patch");
    }
    return found;
}

}  // namespace

Region read_core(const Buffer& cores, const char* name, int i, int height, int width) {
    const int* core = cores.as<int>() + 4 * static_cast<ptrdiff_t>(i);
    if (core[0] < 0 || core[1] < 0 || core[2] < 1 || core[3] < 1 || core[2] > height - core[0] || core[3] > width - core[1])
        throw std::invalid_argument(std::string(name) + ": rectangle " + std::to_string(i) + " does not lie in the picture");
    return {core[0], core[0] + core[2], core[1], core[1] + core[3]};
}

void check_threads(int threads) {
    if (threads < 1 || threads > 1024) throw std::invalid_argument("threads must be 1 to 1024");
}

PyObject* texture_new(PyObject*, PyObject* args) {
    return guarded([&]() -> PyObject* {
        const char* name;
        PyObject* weight_object;
        int mean[3];
        parse(args, "sO(iii)", &name, &weight_object, &mean[0], &mean[1], &mean[2]);
        const Kernels& kernels = kernels_named(name);
        const Buffer weight(weight_object, "weight", "h", {-1, 3, 3, 3});
        require(static_cast<bool>(weight), "weight");
        if (weight.size(0) < 1) throw std::invalid_argument("weight: needs at least one channel");
        auto* texture = new Texture(kernels, weight.as<int16_t>(), weight.size(0), mean);
        PyObject* capsule = PyCapsule_New(texture, kTextureName, [](PyObject* c) {
            delete static_cast<Texture*>(PyCapsule_GetPointer(c, kTextureName));
        });
        if (!capsule) delete texture;
        return capsule;
    });
}

PyObject* texture_sums(PyObject*, PyObject* args) {
    return guarded([&]() -> PyObject* {
        PyObject *capsule, *image_object, *cores_object, *out_object;
        int threads;
        parse(args, "OOOOi", &capsule, &image_object, &cores_object, &out_object, &threads);
        const auto* texture = static_cast<const Texture*>(PyCapsule_GetPointer(capsule, kTextureName));
        if (!texture) throw PythonError();
        const Buffer image(image_object, "image", "B", {-1, -1, 3}, false, true), cores(cores_object, "cores", "i", {-1, 4});
        check_threads(threads);
        const std::vector<Core> found = read_cores(image, cores);
        const Buffer out(out_object, "out", "q", {cores.size(0), 3, texture->features()}, true);
        require(static_cast<bool>(out), "out");
        int64_t* to = out.as<int64_t>();
        {
            Unlocked unlocked;
            each_on_threads(cores.size(0), threads, [&](int i) {
                texture->sums(found[i], to + static_cast<ptrdiff_t>(i) * 3 * texture->features());
            });
        }
        Py_RETURN_NONE;
    });
}

PyObject* grey_sums(PyObject*, PyObject* args) {
    return guarded([&]() -> PyObject* {
        PyObject *kernel_object, *image_object, *cores_object, *out_object;
        int threads;
        parse(args, "OOOOi", &kernel_object, &image_object, &cores_object, &out_object, &threads);
        const Buffer kernel(kernel_object, "kernel", "d", {kGreyNodes, kBins});
        const Buffer image(image_object, "image", "B", {-1, -1, 3}, false, true), cores(cores_object, "cores", "i", {-1, 4});
        check_threads(threads);
        const std::vector<Core> found = read_cores(image, cores);
        const Buffer out(out_object, "out", "d", {cores.size(0), kBins}, true);
        require(kernel && out, "kernel or out");
        double* to = out.as<double>();
        {
            Unlocked unlocked;
            each_on_threads(cores.size(0), threads, [&](int i) {
                grey_sums(found[i], kernel.as<double>(), to + static_cast<ptrdiff_t>(i) * kBins);
            });
        }
        Py_RETURN_NONE;
    });
}

}  // namespace gdq
