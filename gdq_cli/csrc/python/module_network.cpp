#include <deque>
#include <string>
#include <utility>

#include "buffers.h"
#include "module.h"
#include "network/runner.h"

namespace gdq {
namespace {

constexpr char kNetworkName[] = "gdq_cli._kernels.network";

struct NetworkHandle {
    Network network;
    bool finished = false;
};

NetworkHandle& handle_of(PyObject* capsule) {
    auto* handle = static_cast<NetworkHandle*>(PyCapsule_GetPointer(capsule, kNetworkName));
    if (!handle) throw PythonError();
    return *handle;
}

// A network changes only until it is finished: afterwards threads may share it.
Network& unfinished(PyObject* capsule) {
    NetworkHandle& handle = handle_of(capsule);
    if (handle.finished) throw std::invalid_argument("the network is finished and cannot be changed");
    return handle.network;
}

const Network& finished(PyObject* capsule) {
    NetworkHandle& handle = handle_of(capsule);
    if (!handle.finished) throw std::invalid_argument("the network is not finished");
    return handle.network;
}

// Weight and affine map of one convolution.
struct ConvBuffers {
    Buffer weight, m, c;
    ConvBuffers(PyObject* w, PyObject* multiplier, PyObject* offset, const char* formats, Py_ssize_t cout, Py_ssize_t cin)
        : weight(w, "weight", formats, {cout, cin, 3, 3}), m(multiplier, "multiplier", "f", {cout}), c(offset, "offset", "f", {cout}) {
        require(weight && m && c, "weight, multiplier or offset");
    }
};

}  // namespace

PyObject* network_new(PyObject*, PyObject* args) {
    return guarded([&]() -> PyObject* {
        const char* name;
        int features, scale, given;
        float largest;
        PyObject* outer_object;
        parse(args, "siiOif", &name, &features, &scale, &outer_object, &given, &largest);
        const Kernels& kernels = kernels_named(name);
        if (features <= 0) throw std::invalid_argument("features must be positive");
        const Buffer outer(outer_object, "outer", "i", {-1});
        require(static_cast<bool>(outer), "outer");
        if (given < 0 || given > outer.size(0)) throw std::invalid_argument("outer: fewer streams than are given");
        std::vector<int> places(outer.as<int>(), outer.as<int>() + outer.size(0));
        auto* handle = new NetworkHandle{{kernels, features, scale, std::move(places), given, largest}};
        PyObject* capsule = PyCapsule_New(handle, kNetworkName, [](PyObject* c) {
            delete static_cast<NetworkHandle*>(PyCapsule_GetPointer(c, kNetworkName));
        });
        if (!capsule) delete handle;
        return capsule;
    });
}

PyObject* network_head(PyObject*, PyObject* args) {
    return guarded([&]() -> PyObject* {
        PyObject *capsule, *weight, *m, *c;
        int mean[3];
        parse(args, "OOOO(iii)", &capsule, &weight, &m, &c, &mean[0], &mean[1], &mean[2]);
        Network& network = unfinished(capsule);
        const ConvBuffers conv(weight, m, c, "h", network.features(), 3);
        network.set_head(conv.weight.as<int16_t>(), conv.m.as<float>(), conv.c.as<float>(), mean);
        Py_RETURN_NONE;
    });
}

namespace {

// What becomes of a layer's values, as a tuple.
struct EndingArguments {
    PyObject *slope, *factor, *shift;
    int add, keep, to, lo, hi;
    float add_factor;
};

constexpr char kEnding[] = "(OifiiOOii)";

struct EndingBuffers {
    Buffer slope, factor, shift;
    Ending ending;
    EndingBuffers(const EndingArguments& a, Py_ssize_t features)
        : slope(a.slope, "slope", "f", {features}),
          factor(a.factor, "factor", "f", {features}),
          shift(a.shift, "shift", "f", {features}) {
        ending = {slope.as<float>(), a.add, a.add_factor, a.keep, a.to, factor.as<float>(), shift.as<float>(), {a.lo, a.hi}};
    }
};

// args: whatever comes before the ending, as `format` says, and the ending.
template <class... Args>
EndingArguments parse_ending(PyObject* args, const std::string& format, Args... to) {
    EndingArguments a;
    parse(args, (format + kEnding).c_str(), to..., &a.slope, &a.add, &a.add_factor, &a.keep, &a.to, &a.factor, &a.shift, &a.lo,
          &a.hi);
    return a;
}

}  // namespace

PyObject* network_begin(PyObject*, PyObject* args) {
    return guarded([&]() -> PyObject* {
        PyObject* capsule;
        int bit_width, end;
        parse(args, "Oii", &capsule, &bit_width, &end);
        unfinished(capsule).begin(bit_width, end);
        Py_RETURN_NONE;
    });
}

PyObject* network_add_head(PyObject*, PyObject* args) {
    return guarded([&]() -> PyObject* {
        PyObject* capsule;
        int bit_width;
        const EndingArguments ending = parse_ending(args, "Oi", &capsule, &bit_width);
        Network& network = unfinished(capsule);
        network.add_head(bit_width, EndingBuffers(ending, network.features()).ending);
        Py_RETURN_NONE;
    });
}

PyObject* network_pass(PyObject*, PyObject* args) {
    return guarded([&]() -> PyObject* {
        PyObject* capsule;
        int bit_width;
        const EndingArguments ending = parse_ending(args, "Oi", &capsule, &bit_width);
        Network& network = unfinished(capsule);
        network.add_pass(bit_width, EndingBuffers(ending, network.features()).ending);
        Py_RETURN_NONE;
    });
}

PyObject* network_conv(PyObject*, PyObject* args) {
    return guarded([&]() -> PyObject* {
        PyObject *capsule, *weight, *m, *c;
        int bit_width, source, lo, hi;
        const EndingArguments ending = parse_ending(args, "OiiOOOii", &capsule, &bit_width, &source, &weight, &m, &c, &lo, &hi);
        Network& network = unfinished(capsule);
        const ConvBuffers conv(weight, m, c, "b", network.features(), network.features());
        network.add_conv(bit_width, source, conv.weight.as<int8_t>(), conv.m.as<float>(), conv.c.as<float>(), {lo, hi},
                         EndingBuffers(ending, network.features()).ending);
        Py_RETURN_NONE;
    });
}

PyObject* network_up(PyObject*, PyObject* args) {
    return guarded([&]() -> PyObject* {
        PyObject *capsule, *weight, *m, *c;
        int r, in_lo, in_hi, lo, hi;
        parse(args, "OOOOiiiii", &capsule, &weight, &m, &c, &r, &in_lo, &in_hi, &lo, &hi);
        Network& network = unfinished(capsule);
        if (r < 2 || r > 4) throw std::invalid_argument("pixel shuffle factors are 2 to 4, not " + std::to_string(r));
        const ConvBuffers conv(weight, m, c, "b", static_cast<Py_ssize_t>(network.features()) * r * r, network.features());
        network.add_up(conv.weight.as<int8_t>(), conv.m.as<float>(), conv.c.as<float>(), r, {in_lo, in_hi}, {lo, hi});
        Py_RETURN_NONE;
    });
}

PyObject* network_tail(PyObject*, PyObject* args) {
    return guarded([&]() -> PyObject* {
        PyObject *capsule, *weight, *m, *c;
        int r, lo, hi, enlarged;
        parse(args, "OOOOiiip", &capsule, &weight, &m, &c, &r, &lo, &hi, &enlarged);
        Network& network = unfinished(capsule);
        if (r != 1 && r != network.scale()) throw std::invalid_argument("the tail's pixel shuffle factor must be 1 or the scale");
        const ConvBuffers conv(weight, m, c, "b", 3 * static_cast<Py_ssize_t>(r) * r, network.features());
        network.set_tail(conv.weight.as<int8_t>(), conv.m.as<float>(), conv.c.as<float>(), r, {lo, hi}, enlarged);
        Py_RETURN_NONE;
    });
}

PyObject* network_finish(PyObject*, PyObject* capsule) {
    return guarded([&]() -> PyObject* {
        unfinished(capsule).finish();
        handle_of(capsule).finished = true;
        Py_RETURN_NONE;
    });
}

PyObject* network_algorithms(PyObject*, PyObject* args) {
    return guarded([&]() -> PyObject* {
        PyObject* capsule;
        int bit_width;
        parse(args, "Oi", &capsule, &bit_width);
        const Network& network = finished(capsule);
        if (!network.has_bit_width(bit_width)) throw std::invalid_argument("the network has no such bit-width");
        PyObject* list = PyList_New(0);
        for (Algorithm a : network.algorithms(bit_width)) {
            PyObject* item = PyLong_FromLong(static_cast<long>(a));
            if (list && (!item || PyList_Append(list, item) < 0)) Py_CLEAR(list);
            Py_XDECREF(item);
        }
        return list;
    });
}

PyObject* network_run(PyObject*, PyObject* args) {
    return guarded([&]() -> PyObject* {
        PyObject *capsule, *image_object, *windows_object, *cores_object, *widths_object, *patches_object, *out_object;
        PyObject *streams_object, *progress;
        int threads;
        parse(args, "OOOOOOOO!iO", &capsule, &image_object, &windows_object, &cores_object, &widths_object, &patches_object,
              &out_object, &PyTuple_Type, &streams_object, &threads, &progress);
        const Network& network = finished(capsule);
        check_threads(threads);
        const Buffer image(image_object, "image", "B", {-1, -1, 3}, false, true), windows(windows_object, "windows", "i", {-1, 4});
        require(image && windows, "image or windows");
        const int count = windows.size(0), height = image.size(0), width = image.size(1), scale = network.scale();
        const Buffer cores(cores_object, "cores", "i", {count, 4}), widths(widths_object, "bit_widths", "B", {count});
        const Buffer patches(patches_object, "patches", "i", {count});
        const Buffer out(out_object, "out", "B", {static_cast<Py_ssize_t>(height) * scale, static_cast<Py_ssize_t>(width) * scale, 3}, true, true);
        const bool ends = network.has_pixels();
        require(cores && widths && patches && (!ends || out), "cores, bit_widths, patches or out");
        if (ends && (out.stride(2) != 1 || out.stride(1) != 3 || (out.size(0) > 1 && out.stride(0) < static_cast<Py_ssize_t>(out.size(1)) * 3)))
            throw std::invalid_argument("out: pixels of a row must be contiguous and rows must not overlap");

        std::vector<Job> jobs(count);
        std::vector<Py_ssize_t> starts;  // of the windows' pixels in the streams
        Py_ssize_t pixels = 0;
        for (int i = 0; i < count; i++) {
            Job& job = jobs[i];
            const Region seen = read_core(windows, "windows", i, height, width), core = read_core(cores, "cores", i, height, width);
            if (core.y0 < seen.y0 || core.y1 > seen.y1 || core.x0 < seen.x0 || core.x1 > seen.x1)
                throw std::invalid_argument("cores: core " + std::to_string(i) + " does not lie in its window");
            job.height = seen.y1 - seen.y0, job.width = seen.x1 - seen.x0;
            if (static_cast<int64_t>(job.height) * job.width > kMostPixels)
                throw std::invalid_argument("windows: more than 2^26 pixels in one window");
            job.row = image.stride(0), job.column = image.stride(1), job.channel = image.stride(2);
            job.pixels = image.as<uint8_t>() + seen.y0 * job.row + seen.x0 * job.column;
            job.core = {core.y0 - seen.y0, core.y1 - seen.y0, core.x0 - seen.x0, core.x1 - seen.x0};
            job.bit_width = widths.as<uint8_t>()[i];
            if (!network.has_bit_width(job.bit_width))
                throw std::invalid_argument("bit_widths: the network has no " + std::to_string(job.bit_width) + "-bit patches");
            job.patches = patches.as<int>()[i];
            if (job.patches < 1) throw std::invalid_argument("patches: at least one in a window");
            if (ends) {
                job.out_row = out.stride(0);
                job.out = out.as<uint8_t>() + static_cast<Py_ssize_t>(core.y0) * scale * job.out_row + static_cast<Py_ssize_t>(core.x0) * scale * 3;
            }
            starts.push_back(pixels);
            pixels += static_cast<Py_ssize_t>(job.height) * job.width;
        }
        const size_t outer = network.outer().size();
        if (static_cast<size_t>(PyTuple_GET_SIZE(streams_object)) != outer)
            throw std::invalid_argument("streams: not as many as the network has");
        std::deque<Buffer> held;
        for (size_t s = 0; s < outer; s++) {
            const std::initializer_list<Py_ssize_t> shape = {pixels, network.features()};
            held.emplace_back(PyTuple_GET_ITEM(streams_object, s), "streams", "f", shape, true);
            require(static_cast<bool>(held.back()), "streams");
        }
        std::vector<float*> streams;  // by window
        for (Py_ssize_t start : starts)
            for (const Buffer& stream : held) streams.push_back(stream.as<float>() + start * network.features());
        for (int i = 0; i < count; i++) jobs[i].streams = streams.data() + static_cast<size_t>(i) * outer;
        bool raised = false;
        // Called without the interpreter lock, between waits of the calling thread.
        const auto poll = [&](int done) {
            if (raised) return false;
            const PyGILState_STATE state = PyGILState_Ensure();
            if (PyErr_CheckSignals() < 0) raised = true;
            if (!raised && progress != Py_None) {
                PyObject* result = PyObject_CallFunction(progress, "i", done);
                if (!result) raised = true;
                Py_XDECREF(result);
            }
            PyGILState_Release(state);
            return !raised;
        };
        if (count > 0) {
            Unlocked unlocked;
            run_jobs(network, std::move(jobs), threads, poll);
        }
        if (raised) throw PythonError();
        Py_RETURN_NONE;
    });
}

}  // namespace gdq
