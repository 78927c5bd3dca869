#include "ui/cli/commands.h"

int main(int argc, char** argv) { return vg::cli::main(argc, argv); }
