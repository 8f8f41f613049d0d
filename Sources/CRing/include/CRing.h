#ifndef CRING_H
#define CRING_H
#include <stddef.h>
#include <stdint.h>
#endif
