#ifndef _NGX_VIDGEN_STORE_VALUE_H_INCLUDED_
#define _NGX_VIDGEN_STORE_VALUE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* The texts that parameters and rows of the database are made of. */

/* Copies text into pool; data NULL if it is empty: SQL's NULL. */
ngx_int_t ngx_vidgen_store_copy(ngx_pool_t *pool, ngx_str_t *copy,
    ngx_str_t *text);

/* Prints an interval of ms into pool; numbers: ngx_vidgen_text_number() */
ngx_int_t ngx_vidgen_store_interval(ngx_pool_t *pool, ngx_str_t *text,
    ngx_msec_t ms);

/* A number of a row; 0 for NULL and for what is none. */
int64_t ngx_vidgen_store_integer(ngx_str_t *text);

/* 1 for SQL's true */
#define ngx_vidgen_store_true(text)                                           \
    ((text)->len == 1 && (text)->data[0] == 't')

/* 1: a column says exactly that word, a literal */
#define ngx_vidgen_store_is(text, word)                                       \
    ((text)->len == sizeof(word) - 1                                          \
     && ngx_memcmp((text)->data, word, sizeof(word) - 1) == 0)

/* the parameter's text of a boolean */
extern ngx_str_t  ngx_vidgen_store_boolean[2];


#endif /* _NGX_VIDGEN_STORE_VALUE_H_INCLUDED_ */
