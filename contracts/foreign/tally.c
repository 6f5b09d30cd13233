/*
 * The contract of tally.wat in C, without a library:
 *
 *     clang --target=wasm32 -O2 -nostdlib -Wl,--no-entry,-z,stack-size=8192,--max-memory=4194304 -o tally.wasm tally.c
 *
 * The section `cmesh.abi` is written by the assembler directive below; it says what tally.abi.json says.
 */
#define HOST(name) __attribute__((import_module("cmesh"), import_name(#name))) extern
#define EXPORT(name) __attribute__((export_name("call_" #name))) void call_##name(void)

HOST(input) int input(void);
HOST(reg) void reg(void *to);
HOST(output) void output(const void *bytes, int length);
HOST(get) int get(const void *key, int key_length);
HOST(set) void set(const void *key, int key_length, const void *value, int length);
HOST(emit) void emit(const void *topic, int topic_length, const void *data, int length);
HOST(ctxs) int ctxs(int field);
HOST(fail) _Noreturn void fail(const void *reason, int length);

__asm__(
  ".section .custom_section.cmesh.abi,\"\",@\n"
  ".ascii \"{\\\"abi\\\":1,\\\"sdk\\\":\\\"none\\\",\\\"functions\\\":[\"\n"
  ".ascii \"{\\\"name\\\":\\\"vote\\\",\\\"mode\\\":\\\"write\\\",\\\"params\\\":[{\\\"name\\\":\\\"option\\\",\\\"type\\\":\\\"string\\\"}],\\\"returns\\\":\\\"u32\\\"},\"\n"
  ".ascii \"{\\\"name\\\":\\\"count\\\",\\\"mode\\\":\\\"view\\\",\\\"params\\\":[{\\\"name\\\":\\\"option\\\",\\\"type\\\":\\\"string\\\"}],\\\"returns\\\":\\\"u32\\\"},\"\n"
  ".ascii \"{\\\"name\\\":\\\"voter\\\",\\\"mode\\\":\\\"view\\\",\\\"params\\\":[],\\\"returns\\\":\\\"string\\\"}],\"\n"
  ".ascii \"\\\"events\\\":[{\\\"name\\\":\\\"voted\\\",\\\"fields\\\":[]}]}\"\n"
  ".text\n");

static const char EXPECTED[] = "one option of 1 to 64 characters is expected";
static char text[256];

/* Reads ["option"]: gives where the option stands, and its length. */
static const char *option(int *length) {
  int n = input();
  if (n < 5 || n > 68) fail(EXPECTED, sizeof EXPECTED - 1);
  reg(text);
  if (text[0] != '[' || text[1] != '"') fail(EXPECTED, sizeof EXPECTED - 1);
  *length = n - 4;
  return text + 2;
}

static unsigned votes(const char *key, int length) {
  unsigned number = 0;
  if (get(key, length) >= 0) reg(&number);
  return number;
}

static void give(unsigned number) {
  char digits[10];
  int at = sizeof digits;
  do digits[--at] = '0' + number % 10; while (number /= 10);
  output(digits + at, sizeof digits - at);
}

EXPORT(vote) {
  int length;
  const char *key = option(&length);
  unsigned number = votes(key, length) + 1;
  set(key, length, &number, sizeof number);
  emit("voted", 5, key, length);
  give(number);
}

EXPORT(count) {
  int length;
  const char *key = option(&length);
  give(votes(key, length));
}

EXPORT(voter) {
  int length = ctxs(0);
  reg(text + 1);
  text[0] = text[length + 1] = '"';
  output(text, length + 2);
}
