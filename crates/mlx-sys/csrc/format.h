// mlx-c calls std::format, which GCC 12's library does not have yet. This file is included before
// every source; where the library has <format> it only includes that one.
//
// The stand-in puts a name into namespace std, which a program may not do: it is what keeps
// upstream's source unchanged, and it never meets the real one. It knows "{}" and nothing else,
// which is all that mlx-c uses.
#pragma once

#include <version>

#if __has_include(<format>)
#include <format>
#else

#include <sstream>
#include <string>
#include <string_view>

namespace std {

namespace mlxb_format {

inline void append(ostringstream& out, string_view text) {
  out << text;
}

template <typename First, typename... Rest>
void append(ostringstream& out, string_view text, const First& first, const Rest&... rest) {
  auto hole = text.find("{}");
  if (hole == string_view::npos) {
    out << text;
    return;
  }
  out << text.substr(0, hole) << first;
  append(out, text.substr(hole + 2), rest...);
}

} // namespace mlxb_format

template <typename... Args>
string format(string_view text, const Args&... args) {
  ostringstream out;
  mlxb_format::append(out, text, args...);
  return out.str();
}

} // namespace std

#endif
