// The Python module gdq_cli._kernels; gdq_cli/engines/kernels.py is its documented face.
#include "module.h"

#include <string>
#include <vector>

#include "buffers.h"
#include "kernels/isa.h"
#include "network/layer.h"

namespace gdq {

const Kernels& kernels_named(const char* name) {
    const Kernels* kernels = find_kernels(name);
    if (!kernels) throw std::invalid_argument(std::string("no kernels called '") + name + "' run on this processor");
    return *kernels;
}

namespace {

constexpr char kConvName[] = "gdq_cli._kernels.conv";

// A packed convolution for single-layer calls.
struct ConvHandle {
    const Kernels& kernels;
    Conv conv;
    int cin, cout, r;
};

PyObject* isas(PyObject*, PyObject*) {
    Isa found[kMaxIsas];
    const int n = list_isas(found);
    PyObject* list = PyList_New(0);
    for (int i = 0; list && i < n; i++) {
        const Kernels& kernels = *found[i].kernels;
        PyObject* item = Py_BuildValue("(sOI)", kernels.name, found[i].runnable ? Py_True : Py_False, kernels.algorithms);
        if (!item || PyList_Append(list, item) < 0) Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

PyObject* features(PyObject*, PyObject*) { return PyUnicode_FromString(cpu_features()); }

PyObject* test_isa(PyObject*, PyObject* args) {
    return guarded([&]() -> PyObject* {
        const char* name;
        if (!PyArg_ParseTuple(args, "s", &name)) throw PythonError();
        const Kernels& kernels = kernels_named(name);
        const char* difference;
        {
            Unlocked unlocked;
            difference = self_test(kernels);
        }
        if (difference) return PyUnicode_FromString(difference);
        Py_RETURN_NONE;
    });
}

PyObject* conv_new(PyObject*, PyObject* args) {
    return guarded([&]() -> PyObject* {
        const char* name;
        PyObject* weight_object;
        int lo, hi, algorithm, r;
        if (!PyArg_ParseTuple(args, "sOiiii", &name, &weight_object, &lo, &hi, &algorithm, &r)) throw PythonError();
        const Kernels& kernels = kernels_named(name);
        const Buffer weight(weight_object, "weight", "b", {-1, -1, 3, 3});
        if (!weight) throw std::invalid_argument("weight: needs a buffer");
        if (lo < -128 || hi > (lo < 0 ? 127 : 255) || lo > 0 || hi < 0) throw std::invalid_argument("codes have at most 8 bits");
        if (algorithm < -1 || algorithm >= kAlgorithms) throw std::invalid_argument("unknown algorithm");
        const int cout = weight.size(0), cin = weight.size(1);
        if (cout < 1 || cin < 1) throw std::invalid_argument("weight: needs at least one channel");
        if (r < 1 || r > 4 || cout % (r * r)) throw std::invalid_argument("bad pixel shuffle factor");
        std::vector<int> order;
        if (r > 1)
            for (int o = 0; o < cout; o++) order.push_back(o % (cout / r / r) * r * r + o / (cout / r / r));
        const int8_t* w = weight.as<int8_t>();
        const Algorithm a = algorithm < 0 ? choose_algorithm(w, cout, cin, {lo, hi}, kernels) : static_cast<Algorithm>(algorithm);
        auto* handle = new ConvHandle{kernels, pack_conv(w, cout, cin, {lo, hi}, a, order, kernels), cin, cout, r};
        PyObject* capsule = PyCapsule_New(handle, kConvName, [](PyObject* c) {
            delete static_cast<ConvHandle*>(PyCapsule_GetPointer(c, kConvName));
        });
        if (!capsule) delete handle;
        return capsule;
    });
}

const ConvHandle& conv_of(PyObject* capsule) {
    auto* handle = static_cast<const ConvHandle*>(PyCapsule_GetPointer(capsule, kConvName));
    if (!handle) throw PythonError();
    return *handle;
}

PyObject* conv_algorithm(PyObject*, PyObject* capsule) {
    return guarded([&] { return PyLong_FromLong(static_cast<long>(conv_of(capsule).conv.packed.algorithm)); });
}

PyObject* conv_run(PyObject*, PyObject* args) {
    return guarded([&]() -> PyObject* {
        PyObject *capsule, *codes_object, *out_object, *m_object, *c_object, *inv_object, *shift_object;
        PyObject *x_in_object, *x_out_object;
        int store, lo, hi, repeat;
        float x_factor;
        if (!PyArg_ParseTuple(args, "OOOiOOOOOfOiii", &capsule, &codes_object, &out_object, &store, &m_object, &c_object,
                              &inv_object, &shift_object, &x_in_object, &x_factor, &x_out_object, &lo, &hi, &repeat))
            throw PythonError();
        const ConvHandle& handle = conv_of(capsule);
        const Buffer codes(codes_object, "codes", "B", {-1, -1, handle.cin});
        if (!codes) throw std::invalid_argument("codes: needs a buffer");
        const int height = codes.size(0), width = codes.size(1), cout = handle.cout, r = handle.r;
        if (height < 1 || width < 1) throw std::invalid_argument("codes: needs at least one pixel");
        if (store < 0 || store > 2) throw std::invalid_argument("unknown store");
        const bool raw = store == static_cast<int>(Store::raw), stream = store == static_cast<int>(Store::stream);
        const Buffer out(out_object, "out", raw ? "i" : "B", {height * r, width * r, cout / (r * r)}, true);
        const Buffer m(m_object, "multiplier", "f", {cout}), c(c_object, "offset", "f", {cout});
        const Buffer inv(inv_object, "inverse_step", "f", {cout}), shift(shift_object, "shift", "f", {cout});
        const Buffer x_in(x_in_object, "x_in", "f", {height, width, cout});
        const Buffer x_out(x_out_object, "x_out", "f", {height, width, cout}, true);
        if (!out || (!raw && (!m || !c)) || (stream && !inv)) throw std::invalid_argument("a buffer that the store needs is missing");
        if (lo > hi || (stream && lo < 0 ? lo < -128 || hi > 127 : lo < 0 || hi > 255)) throw std::invalid_argument("codes must fit bytes");
        if (repeat < 1) throw std::invalid_argument("repeat must be at least 1");
        LayerCall call{};
        call.store = static_cast<Store>(store);
        call.codes = codes.as<uint8_t>();
        call.height = height, call.width = width, call.r = r;
        call.m = m.as<float>(), call.c = c.as<float>(), call.inv = inv.as<float>(), call.shift = shift.as<float>();
        call.lo = lo, call.hi = hi;
        (raw ? reinterpret_cast<void*&>(call.raw) : reinterpret_cast<void*&>(call.out)) = out.as<void>();
        call.x_in = stream ? x_in.as<float>() : nullptr;
        call.x_factor = x_factor;
        call.x_out = stream ? x_out.as<float>() : nullptr;
        double seconds;
        {
            Unlocked unlocked;
            seconds = run_layer(handle.kernels, handle.conv, handle.cin, cout, call, repeat);
        }
        return PyFloat_FromDouble(seconds);
    });
}

PyObject* tail_run(PyObject*, PyObject* args) {
    return guarded([&]() -> PyObject* {
        const char* name;
        PyObject *weight_object, *m_object, *c_object, *codes_object, *out_object;
        if (!PyArg_ParseTuple(args, "sOOOOO", &name, &weight_object, &m_object, &c_object, &codes_object, &out_object))
            throw PythonError();
        const Kernels& kernels = kernels_named(name);
        const Buffer weight(weight_object, "weight", "b", {3, -1, 3, 3});
        const Buffer m(m_object, "multiplier", "f", {3}), c(c_object, "offset", "f", {3});
        if (!weight || !m || !c) throw std::invalid_argument("the tail needs weight, multiplier and offset");
        const int cin = weight.size(1);
        const Buffer codes(codes_object, "codes", "B", {-1, -1, cin});
        if (!codes || codes.size(0) < 1 || codes.size(1) < 1 || cin < 1)
            throw std::invalid_argument("codes: needs at least one pixel and channel");
        const Buffer out(out_object, "out", "B", {codes.size(0), codes.size(1), 3}, true);
        if (!out) throw std::invalid_argument("out: needs a buffer");
        const Tail tail = pack_tail(weight.as<int8_t>(), cin, m.as<float>(), c.as<float>(), kernels);
        {
            Unlocked unlocked;
            run_tail_layer(kernels, tail, cin, codes.as<uint8_t>(), codes.size(0), codes.size(1), out.as<uint8_t>());
        }
        Py_RETURN_NONE;
    });
}

PyMethodDef kMethods[] = {
    {"isas", isas, METH_NOARGS, "[(name, runnable, algorithms as bits)], fastest first."},
    {"cpu_features", features, METH_NOARGS, "Processor features that matter to the kernels, space separated."},
    {"self_test", test_isa, METH_VARARGS, "self_test(isa) -> None, or the name of the first kernel that is wrong."},
    {"conv_new", conv_new, METH_VARARGS, "conv_new(isa, weight, lo, hi, algorithm, r) -> handle"},
    {"conv_algorithm", conv_algorithm, METH_O, "conv_algorithm(handle) -> int"},
    {"conv_run", conv_run, METH_VARARGS,
     "conv_run(handle, codes, out, store, multiplier, offset, inverse_step, shift or None, x_in, x_factor, x_out, lo, hi, "
     "repeat) -> seconds"},
    {"tail_run", tail_run, METH_VARARGS, "tail_run(isa, weight, multiplier, offset, codes, out)"},
    {"network_new", network_new, METH_VARARGS, "network_new(isa, features, scale, outer, given, largest) -> handle"},
    {"network_head", network_head, METH_VARARGS, "network_head(network, weight, multiplier, offset, mean)"},
    {"network_begin", network_begin, METH_VARARGS, "network_begin(network, bit_width, end)"},
    {"network_add_head", network_add_head, METH_VARARGS,
     "network_add_head(network, bit_width, ending); an ending is (slope or None, add, add_factor, keep, to, factor or None, "
     "shift or None, lo, hi)"},
    {"network_pass", network_pass, METH_VARARGS, "network_pass(network, bit_width, ending)"},
    {"network_conv", network_conv, METH_VARARGS,
     "network_conv(network, bit_width, source, weight, multiplier, offset, in_lo, in_hi, ending)"},
    {"network_up", network_up, METH_VARARGS, "network_up(network, weight, multiplier, offset, r, in_lo, in_hi, lo, hi)"},
    {"network_tail", network_tail, METH_VARARGS, "network_tail(network, weight, multiplier, offset, r, lo, hi, enlarged)"},
    {"network_finish", network_finish, METH_O, "network_finish(network): checks that nothing is missing"},
    {"network_algorithms", network_algorithms, METH_VARARGS, "network_algorithms(network, bit_width) -> [int]"},
    {"network_run", network_run, METH_VARARGS,
     "network_run(network, image, windows, cores, bit_widths, patches, out, streams, threads, progress or None)"},
    {"texture_new", texture_new, METH_VARARGS, "texture_new(isa, weight, mean) -> handle"},
    {"texture_sums", texture_sums, METH_VARARGS, "texture_sums(texture, image, cores, out, threads)"},
    {"grey_sums", grey_sums, METH_VARARGS, "grey_sums(kernel, image, cores, out, threads)"},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef_Slot kSlots[] = {
#ifdef Py_GIL_DISABLED
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, nullptr},
};

PyModuleDef kModule = {
    PyModuleDef_HEAD_INIT, "_kernels", "Exact integer convolutions; see gdq_cli.engines.kernels.", 0, kMethods, kSlots,
    nullptr, nullptr, nullptr,
};

}  // namespace
}  // namespace gdq

PyMODINIT_FUNC PyInit__kernels(void) { return PyModuleDef_Init(&gdq::kModule); }
