#include "buffers.h"

#include <cstdint>
#include <cstring>
#include <string>

namespace gdq {
namespace {

[[noreturn]] void fail(const std::string& message) { throw std::invalid_argument(message); }

std::string describe(const Py_ssize_t* shape, int n) {
    std::string s = "(";
    for (int i = 0; i < n; i++) s += (i ? ", " : "") + (shape[i] < 0 ? std::string("any") : std::to_string(shape[i]));
    return s + ")";
}

Py_ssize_t item_size(char format) {
    switch (format) {
        case 'd':
        case 'q': return 8;
        case 'h': return 2;
        case 'i':
        case 'f': return 4;
        default: return 1;
    }
}

}  // namespace

Buffer::Buffer(PyObject* object, const char* name, const char* formats, std::initializer_list<Py_ssize_t> shape, bool writable,
               bool strided) {
    const std::string who = name;
    if (object == nullptr || object == Py_None) return;
    const int flags = PyBUF_FORMAT | (strided ? PyBUF_STRIDES : PyBUF_C_CONTIGUOUS) | (writable ? PyBUF_WRITABLE : 0);
    if (PyObject_GetBuffer(object, &view_, flags) < 0) {
        if (PyErr_ExceptionMatches(PyExc_TypeError)) throw PythonError();
        PyErr_Clear();
        fail(who + ": needs a " + (writable ? "writable " : "") + (strided ? "" : "C-contiguous ") + "buffer");
    }
    held_ = true;
    try {
        const char* format = view_.format ? view_.format : "B";
        if (*format == '@' || *format == '=' || *format == '<') format++;
        // NumPy's int32 and int64 bear the names of C types that differ between platforms
        const char type = *format == 'l' ? (view_.itemsize == 8 ? 'q' : 'i') : *format;
        if (std::strlen(format) != 1 || !std::strchr(formats, type) || view_.itemsize != item_size(type))
            fail(who + ": wrong item type '" + (view_.format ? view_.format : "B") + "', expected one of '" + formats + "'");
        bool right = view_.ndim == static_cast<int>(shape.size());
        for (int i = 0; right && i < view_.ndim; i++) {
            const Py_ssize_t want = shape.begin()[i];
            right = view_.shape[i] <= 0x7fffffff && (want < 0 || view_.shape[i] == want);
        }
        if (reinterpret_cast<uintptr_t>(view_.buf) % static_cast<size_t>(view_.itemsize)) fail(who + ": memory is not aligned");
        if (!right)
            fail(who + ": shape " + describe(view_.shape, view_.ndim) + " instead of " +
                 describe(shape.begin(), static_cast<int>(shape.size())));
    } catch (...) {
        PyBuffer_Release(&view_);
        held_ = false;
        throw;
    }
}

Buffer::~Buffer() {
    if (held_) PyBuffer_Release(&view_);
}

void require(bool there, const char* what) {
    if (!there) fail(std::string(what) + ": needs a buffer");
}

}  // namespace gdq
