// Checked access to Python buffers.
#pragma once
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <initializer_list>
#include <stdexcept>

namespace gdq {

// A Python exception is already set.
struct PythonError {};

// Holds a buffer while in scope. Every constructor argument that does not match raises ValueError naming the argument.
class Buffer {
  public:
    // formats: accepted struct codes ("B", "b", "h", "i", "q", "f", "d"); shape: expected lengths, -1 for any.
    // strided: any strides are accepted, otherwise C-contiguous memory is demanded.
    Buffer(PyObject* object, const char* name, const char* formats, std::initializer_list<Py_ssize_t> shape,
           bool writable = false, bool strided = false);
    ~Buffer();
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;

    template <class T>
    T* as() const { return static_cast<T*>(view_.buf); }
    int size(int axis) const { return static_cast<int>(view_.shape[axis]); }
    Py_ssize_t stride(int axis) const { return view_.strides[axis]; }
    explicit operator bool() const { return held_; }

  private:
    Py_buffer view_{};
    bool held_ = false;
};

// Throws ValueError for a missing buffer.
void require(bool there, const char* what);

// Arguments of a Python function.
template <class... Args>
void parse(PyObject* args, const char* format, Args... to) {
    if (!PyArg_ParseTuple(args, format, to...)) throw PythonError();
}

// Runs a function body and turns C++ exceptions into Python ones.
template <class Body>
PyObject* guarded(const Body& body) {
    try {
        return body();
    } catch (const PythonError&) {
        return nullptr;
    } catch (const std::invalid_argument& e) {
        PyErr_SetString(PyExc_ValueError, e.what());
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
    } catch (const std::exception& e) {
        PyErr_SetString(PyExc_RuntimeError, e.what());
    }
    return nullptr;
}

// Releases the interpreter lock while in scope, also when an exception leaves it.
class Unlocked {
  public:
    Unlocked() : state_(PyEval_SaveThread()) {}
    ~Unlocked() { PyEval_RestoreThread(state_); }
    Unlocked(const Unlocked&) = delete;
    Unlocked& operator=(const Unlocked&) = delete;

  private:
    PyThreadState* state_;
};

}  // namespace gdq
