// The Python module gdq_cli._kernels; gdq_cli/engines/kernels.py is its documented face.
#include "module.h"

#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <tuple>
#include <vector>

#include "isa/isa.h"
#include "layers/layer.h"

namespace gdq {

const Kernels& kernels_named(const char* name) {
    const Kernels* kernels = find_kernels(name);
    if (!kernels) throw std::invalid_argument(std::string("no kernels called '") + name + "' run on this processor");
    return *kernels;
}

namespace {

std::vector<std::tuple<const char*, bool, unsigned>> isas() {
    Isa found[kMaxIsas];
    std::vector<std::tuple<const char*, bool, unsigned>> list;
    for (int i = 0, n = list_isas(found); i < n; i++)
        list.emplace_back(found[i].kernels->name, found[i].runnable, found[i].kernels->algorithms);
    return list;
}

const char* test_isa(const char* name) {
    const Kernels& kernels = kernels_named(name);
    const nb::gil_scoped_release unlocked;
    return self_test(kernels);
}

// A packed convolution for single-layer calls.
class SingleConv {
  public:
    SingleConv(const char* name, const Array<const int8_t, 4>& weight, int lo, int hi, int algorithm, int r)
        : kernels_(kernels_named(name)), cin_(length(weight, 1)), cout_(length(weight, 0)), r_(r) {
        check(weight, "weight", {-1, -1, 3, 3});
        if (lo < -128 || hi > (lo < 0 ? 127 : 255) || lo > 0 || hi < 0) throw std::invalid_argument("codes have at most 8 bits");
        if (algorithm < -1 || algorithm >= kAlgorithms) throw std::invalid_argument("unknown algorithm");
        if (cout_ < 1 || cin_ < 1) throw std::invalid_argument("weight: needs at least one channel");
        if (r < 1 || r > 4 || cout_ % (r * r)) throw std::invalid_argument("bad pixel shuffle factor");
        std::vector<int> order;
        if (r > 1)
            for (int o = 0; o < cout_; o++) order.push_back(o % (cout_ / r / r) * r * r + o / (cout_ / r / r));
        const int8_t* w = weight.data();
        const Algorithm a = algorithm < 0 ? choose_algorithm(w, cout_, cin_, {lo, hi}, kernels_) : static_cast<Algorithm>(algorithm);
        conv_ = pack_conv(w, cout_, cin_, {lo, hi}, a, order, kernels_);
    }

    int algorithm() const { return static_cast<int>(conv_.packed.algorithm); }

    // A call with everything but what its store makes.
    LayerCall call(const Array<const uint8_t, 3>& codes, Store store) const {
        check(codes, "codes", {-1, -1, cin_});
        LayerCall call{};
        call.store = store;
        call.codes = codes.data();
        call.height = length(codes, 0), call.width = length(codes, 1), call.r = r_;
        if (call.height < 1 || call.width < 1) throw std::invalid_argument("codes: needs at least one pixel");
        return call;
    }

    double sums(const Array<const uint8_t, 3>& codes, const Array<int32_t, 3>& out, int repeat) const {
        LayerCall call = this->call(codes, Store::raw);
        check(out, "out", {call.height * r_, call.width * r_, cout_ / (r_ * r_)});
        call.raw = out.data();
        return run(call, repeat);
    }

    double codes(const Array<const uint8_t, 3>& codes, const Array<uint8_t, 3>& out, const Floats& m, const Floats& c, int lo, int hi,
                 int repeat) const {
        LayerCall call = this->call(codes, Store::codes);
        finish(call, out, m, c, lo, hi);
        return run(call, repeat);
    }

    double stream(const Array<const uint8_t, 3>& codes, const Array<uint8_t, 3>& out, const Floats& m, const Floats& c,
                  const Floats& inv, const MaybeFloats& shift, const MaybeArray<const float, 3>& x_in, float x_factor,
                  const MaybeArray<float, 3>& x_out, int lo, int hi, int repeat) const {
        LayerCall call = this->call(codes, Store::stream);
        finish(call, out, m, c, lo, hi);
        check(inv, "inverse_step", {cout_}), check(shift, "shift", {cout_});
        check(x_in, "x_in", {call.height, call.width, cout_}), check(x_out, "x_out", {call.height, call.width, cout_});
        call.inv = inv.data(), call.shift = data_of(shift);
        call.x_in = data_of(x_in), call.x_factor = x_factor, call.x_out = data_of(x_out);
        return run(call, repeat);
    }

  private:
    void finish(LayerCall& call, const Array<uint8_t, 3>& out, const Floats& m, const Floats& c, int lo, int hi) const {
        check(out, "out", {call.height * r_, call.width * r_, cout_ / (r_ * r_)});
        check(m, "multiplier", {cout_}), check(c, "offset", {cout_});
        const bool is_signed = call.store == Store::stream && lo < 0;
        if (lo > hi || (is_signed ? lo < -128 || hi > 127 : lo < 0 || hi > 255)) throw std::invalid_argument("codes must fit bytes");
        call.out = out.data(), call.m = m.data(), call.c = c.data(), call.lo = lo, call.hi = hi;
    }

    double run(const LayerCall& call, int repeat) const {
        if (repeat < 1) throw std::invalid_argument("repeat must be at least 1");
        const nb::gil_scoped_release unlocked;
        return run_layer(kernels_, conv_, cin_, cout_, call, repeat);
    }

    const Kernels& kernels_;
    const int cin_, cout_, r_;
    Conv conv_;
};

void tail_run(const char* name, const Array<const int8_t, 4>& weight, const Floats& m, const Floats& c,
              const Array<const uint8_t, 3>& codes, const Array<uint8_t, 3>& out) {
    const Kernels& kernels = kernels_named(name);
    check(weight, "weight", {3, -1, 3, 3}), check(m, "multiplier", {3}), check(c, "offset", {3});
    const int cin = length(weight, 1), height = length(codes, 0), width = length(codes, 1);
    check(codes, "codes", {-1, -1, cin}), check(out, "out", {height, width, 3});
    if (height < 1 || width < 1 || cin < 1) throw std::invalid_argument("codes: needs at least one pixel and channel");
    const Tail tail = pack_tail(weight.data(), cin, m.data(), c.data(), kernels);
    const nb::gil_scoped_release unlocked;
    run_tail_layer(kernels, tail, cin, codes.data(), height, width, out.data());
}

}  // namespace

NB_MODULE(_kernels, m) {
    nb::set_leak_warnings(false);  // of networks that live until the interpreter ends
    m.doc() = "Exact integer convolutions; see gdq_cli.engines.kernels.";
    m.def("isas", isas, "[(name, runnable, algorithms as bits)], fastest first.");
    m.def("cpu_features", cpu_features, "Processor features that matter to the kernels, space separated.");
    m.def("self_test", test_isa, nb::arg("isa"), "None, or the name of the first kernel that is wrong.");
    nb::class_<SingleConv>(m, "Conv", "A convolution on its own; its calls return the seconds that it took.")
        .def(nb::init<const char*, const Array<const int8_t, 4>&, int, int, int, int>(), nb::arg("isa"), array("weight"),
             nb::arg("lo"), nb::arg("hi"), nb::arg("algorithm"), nb::arg("r"))
        .def_prop_ro("algorithm", &SingleConv::algorithm)
        .def("sums", &SingleConv::sums, array("codes"), array("out"), nb::arg("repeat"))
        .def("codes", &SingleConv::codes, array("codes"), array("out"), array("multiplier"), array("offset"), nb::arg("lo"),
             nb::arg("hi"), nb::arg("repeat"))
        .def("stream", &SingleConv::stream, array("codes"), array("out"), array("multiplier"), array("offset"),
             array("inverse_step"), array("shift"), array("x_in"), nb::arg("x_factor"), array("x_out"), nb::arg("lo"),
             nb::arg("hi"), nb::arg("repeat"));
    m.def("tail_run", tail_run, nb::arg("isa"), array("weight"), array("multiplier"), array("offset"), array("codes"), array("out"));
    bind_network(m);
    bind_describe(m);
}

}  // namespace gdq
