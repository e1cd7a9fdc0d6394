#include <nanobind/stl/array.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <exception>
#include <utility>
#include <vector>

#include "module.h"
#include "network/runner.h"

namespace gdq {
namespace {

void make_ending(Ending* at, const MaybeFloats& slope, int add, float add_factor, int keep, int to, const MaybeFloats& factor,
                 const MaybeFloats& shift, int lo, int hi) {
    const auto copied = [](const MaybeFloats& values) {
        return values ? std::vector<float>(values->data(), values->data() + values->size()) : std::vector<float>();
    };
    new (at) Ending{copied(slope), add, add_factor, keep, to, copied(factor), copied(shift), {lo, hi}};
}

// A network changes only until it is finished: afterwards threads may share it.
class PyNetwork {
  public:
    PyNetwork(const char* isa, int features, int scale, std::vector<int> outer, int given, float largest)
        : network_(kernels_named(isa), features, scale, checked_streams(std::move(outer), given), given, largest) {}

    void set_head(const Array<const int16_t, 4>& weight, const Floats& m, const Floats& c, std::array<int, 3> mean) {
        check_conv(weight, m, c, network_.features(), 3);
        open().set_head(weight.data(), m.data(), c.data(), mean.data());
    }
    void begin(int bit_width, int end) { open().begin(bit_width, end); }
    void add_head(int bit_width, const Ending& ending) { open().add_head(bit_width, ending); }
    void add_pass(int bit_width, const Ending& ending) { open().add_pass(bit_width, ending); }
    void add_conv(int bit_width, int source, const Array<const int8_t, 4>& weight, const Floats& m, const Floats& c, int lo, int hi,
                  const Ending& ending) {
        check_conv(weight, m, c, network_.features(), network_.features());
        open().add_conv(bit_width, source, weight.data(), m.data(), c.data(), {lo, hi}, ending);
    }
    void add_up(const Array<const int8_t, 4>& weight, const Floats& m, const Floats& c, int r, int in_lo, int in_hi, int lo, int hi) {
        if (r < 2 || r > 4) throw std::invalid_argument("pixel shuffle factors are 2 to 4, not " + std::to_string(r));
        check_conv(weight, m, c, static_cast<int64_t>(network_.features()) * r * r, network_.features());
        open().add_up(weight.data(), m.data(), c.data(), r, {in_lo, in_hi}, {lo, hi});
    }
    void set_tail(const Array<const int8_t, 4>& weight, const Floats& m, const Floats& c, int r, int lo, int hi, bool enlarged) {
        if (r != 1 && r != network_.scale()) throw std::invalid_argument("the tail's pixel shuffle factor must be 1 or the scale");
        check_conv(weight, m, c, 3 * static_cast<int64_t>(r) * r, network_.features());
        open().set_tail(weight.data(), m.data(), c.data(), r, {lo, hi}, enlarged);
    }
    void finish() {
        open().finish();
        finished_ = true;
    }

    std::vector<int> algorithms(int bit_width) const {
        if (!finished().has_bit_width(bit_width)) throw std::invalid_argument("the network has no such bit-width");
        std::vector<int> found;
        for (Algorithm a : network_.algorithms(bit_width)) found.push_back(static_cast<int>(a));
        return found;
    }

    void run(const Picture<const uint8_t>& image, const Array<const int32_t, 2>& windows, const Array<const int32_t, 2>& cores,
             const Array<const uint8_t, 1>& bit_widths, const Array<const int32_t, 1>& patches, const Picture<uint8_t>& out,
             const std::vector<Array<float, 2>>& streams, int threads, const nb::object& progress) const {
        const Network& network = finished();
        check_threads(threads);
        check(image, "image", {-1, -1, 3}), check(windows, "windows", {-1, 4});
        const int64_t count = length(windows, 0), height = length(image, 0), width = length(image, 1), scale = network.scale();
        check(cores, "cores", {count, 4}), check(bit_widths, "bit_widths", {count}), check(patches, "patches", {count});
        check(out, "out", {height * scale, width * scale, 3});
        if (out.stride(2) != 1 || out.stride(1) != 3 || (out.shape(0) > 1 && out.stride(0) < width * scale * 3))
            throw std::invalid_argument("out: pixels of a row must be contiguous and rows must not overlap");

        std::vector<Job> jobs(count);
        std::vector<int64_t> starts;  // of the windows' pixels in the streams
        int64_t pixels = 0;
        for (int i = 0; i < count; i++) {
            Job& job = jobs[i];
            const Region seen = read_core(windows, "windows", i, height, width), core = read_core(cores, "cores", i, height, width);
            if (core.y0 < seen.y0 || core.y1 > seen.y1 || core.x0 < seen.x0 || core.x1 > seen.x1)
                throw std::invalid_argument("cores: core " + std::to_string(i) + " does not lie in its window");
            job.height = seen.y1 - seen.y0, job.width = seen.x1 - seen.x0;
            if (static_cast<int64_t>(job.height) * job.width > kMostPixels)
                throw std::invalid_argument("windows: more than 2^26 pixels in one window");
            job.row = image.stride(0), job.column = image.stride(1), job.channel = image.stride(2);
            job.pixels = image.data() + seen.y0 * job.row + seen.x0 * job.column;
            job.core = {core.y0 - seen.y0, core.y1 - seen.y0, core.x0 - seen.x0, core.x1 - seen.x0};
            job.bit_width = bit_widths.data()[i];
            if (!network.has_bit_width(job.bit_width))
                throw std::invalid_argument("bit_widths: the network has no " + std::to_string(job.bit_width) + "-bit patches");
            job.patches = patches.data()[i];
            if (job.patches < 1) throw std::invalid_argument("patches: at least one in a window");
            job.out_row = out.stride(0);
            job.out = out.data() + core.y0 * scale * job.out_row + core.x0 * scale * 3;
            starts.push_back(pixels);
            pixels += static_cast<int64_t>(job.height) * job.width;
        }
        if (streams.size() != network.outer().size()) throw std::invalid_argument("streams: not as many as the network has");
        for (const Array<float, 2>& stream : streams) check(stream, "streams", {pixels, network.features()});
        std::vector<float*> places;  // of the streams, by window
        for (int64_t start : starts)
            for (const Array<float, 2>& stream : streams) places.push_back(stream.data() + start * network.features());
        for (int i = 0; i < count; i++) jobs[i].streams = places.data() + i * streams.size();
        if (count == 0) return;

        std::exception_ptr raised;
        // Called without the interpreter lock, between waits of the calling thread.
        const auto poll = [&](int done) {
            if (raised) return false;
            const nb::gil_scoped_acquire locked;
            try {
                if (PyErr_CheckSignals() < 0) throw nb::python_error();
                if (!progress.is_none()) progress(done);
            } catch (...) {
                raised = std::current_exception();
            }
            return !raised;
        };
        {
            const nb::gil_scoped_release unlocked;
            run_jobs(network, std::move(jobs), threads, poll);
        }
        if (raised) std::rethrow_exception(raised);
    }

  private:
    static std::vector<int> checked_streams(std::vector<int> outer, int given) {
        if (given < 0 || static_cast<size_t>(given) > outer.size()) throw std::invalid_argument("outer: fewer streams than are given");
        return outer;
    }
    template <class T>
    static void check_conv(const Array<T, 4>& weight, const Floats& m, const Floats& c, int64_t cout, int64_t cin) {
        check(weight, "weight", {cout, cin, 3, 3}), check(m, "multiplier", {cout}), check(c, "offset", {cout});
    }
    Network& open() {
        if (finished_) throw std::invalid_argument("the network is finished and cannot be changed");
        return network_;
    }
    const Network& finished() const {
        if (!finished_) throw std::invalid_argument("the network is not finished");
        return network_;
    }

    Network network_;
    bool finished_ = false;
};

}  // namespace

void bind_network(nb::module_& m) {
    using nb::arg;
    nb::class_<Ending>(m, "Ending", "What becomes of a layer's values.")
        .def("__init__", make_ending, array("slope"), arg("add"), arg("add_factor"), arg("keep"), arg("to"), array("factor"),
             array("shift"), arg("lo"), arg("hi"));
    nb::class_<PyNetwork>(m, "Network", "Operations of every bit-width, in order, then `finish`, then `run`.")
        .def(nb::init<const char*, int, int, std::vector<int>, int, float>(), arg("isa"), arg("features"), arg("scale"), arg("outer"),
             arg("given"), arg("largest"))
        .def("set_head", &PyNetwork::set_head, array("weight"), array("multiplier"), array("offset"), arg("mean"))
        .def("begin", &PyNetwork::begin, arg("bit_width"), arg("end"))
        .def("add_head", &PyNetwork::add_head, arg("bit_width"), arg("ending"))
        .def("add_pass", &PyNetwork::add_pass, arg("bit_width"), arg("ending"))
        .def("add_conv", &PyNetwork::add_conv, arg("bit_width"), arg("source"), array("weight"), array("multiplier"), array("offset"),
             arg("lo"), arg("hi"), arg("ending"))
        .def("add_up", &PyNetwork::add_up, array("weight"), array("multiplier"), array("offset"), arg("r"), arg("in_lo"),
             arg("in_hi"), arg("lo"), arg("hi"))
        .def("set_tail", &PyNetwork::set_tail, array("weight"), array("multiplier"), array("offset"), arg("r"), arg("lo"), arg("hi"),
             arg("enlarged"))
        .def("finish", &PyNetwork::finish)
        .def("algorithms", &PyNetwork::algorithms, arg("bit_width"))
        .def("run", &PyNetwork::run, array("image"), array("windows"), array("cores"), array("bit_widths"), array("patches"),
             array("out"), array("streams"), arg("threads"), arg("progress").none());
}

}  // namespace gdq
