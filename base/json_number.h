/* Numbers as text, for the JSON writer only. */
#ifndef CAIRN_BASE_JSON_NUMBER_H
#define CAIRN_BASE_JSON_NUMBER_H

#define CAIRN_NUMBER_TEXT_BYTES 40

/* The shortest text that reads back equal; returns its length. Finite values only. */
unsigned cairn_number_format_f64(double value, char *out);
unsigned cairn_number_format_f32(float value, char *out);

#endif
