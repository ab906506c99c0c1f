// Behind a kernel's source: a function that takes the arguments as cuLaunchKernel does. EMU_KERNEL names
// the kernel.
namespace emu {
#define EMU_QUIET __attribute__((no_sanitize("thread")))
template <int... I> struct List {};
template <int N, int... I> struct Count : Count<N - 1, N - 1, I...> {};
template <int... I> struct Count<0, I...> { using type = List<I...>; };
template <class... A, int... I> EMU_QUIET inline void call(void (*f)(A...), void** arguments, List<I...>) {
    f(*static_cast<typename std::remove_const<typename std::remove_reference<A>::type>::type*>(arguments[I])...);
}
template <class... A> EMU_QUIET inline void call(void (*f)(A...), void** arguments) {
    call(f, arguments, typename Count<sizeof...(A)>::type{});
}
}
extern "C" EMU_QUIET void emu_entry(void** arguments) { emu::call(EMU_KERNEL, arguments); }
