// NumPy arrays as arguments of functions.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <stdexcept>
#include <string>

namespace gdq {

namespace nb = nanobind;

template <class T, int kAxes>
using Array = nb::ndarray<T, nb::ndim<kAxes>, nb::c_contig, nb::device::cpu>;
template <class T, int kAxes>
using MaybeArray = std::optional<Array<T, kAxes>>;
using Floats = Array<const float, 1>;
using MaybeFloats = std::optional<Floats>;
// (H, W, 3), any strides
template <class T>
using Picture = nb::ndarray<T, nb::shape<-1, -1, 3>, nb::device::cpu>;

// An argument that must be such an array: a converted copy would take results along.
inline auto array(const char* name) { return nb::arg(name).noconvert(); }

// Throws std::invalid_argument unless an array has these lengths, -1 for any.
template <class A>
void check(const A& array, const char* name, std::initializer_list<int64_t> shape) {
    bool right = true;
    std::string found, wanted;
    for (size_t i = 0; i < shape.size(); i++) {
        const int64_t have = static_cast<int64_t>(array.shape(i)), want = shape.begin()[i];
        right = right && have <= INT32_MAX && (want < 0 || have == want);
        found += (i ? ", " : "") + std::to_string(have);
        wanted += (i ? ", " : "") + (want < 0 ? "any" : std::to_string(want));
    }
    if (!right) throw std::invalid_argument(std::string(name) + ": shape (" + found + ") instead of (" + wanted + ")");
    if (reinterpret_cast<uintptr_t>(array.data()) % array.itemsize())
        throw std::invalid_argument(std::string(name) + ": memory is not aligned");
}

template <class A>
void check(const std::optional<A>& array, const char* name, std::initializer_list<int64_t> shape) {
    if (array) check(*array, name, shape);
}

template <class A>
int length(const A& array, size_t axis) { return static_cast<int>(array.shape(axis)); }

template <class A>
auto* data_of(const std::optional<A>& array) { return array ? array->data() : nullptr; }

}  // namespace gdq
