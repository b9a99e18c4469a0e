#ifndef _NGX_HTTP_VIDGEN_INPUT_H_INCLUDED_
#define _NGX_HTTP_VIDGEN_INPUT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "base/ngx_vidgen_signature.h"
#include "http/ngx_http_vidgen_response.h"


/* What a client asks for: the parsed and checked body of a generation. */

#define NGX_HTTP_VIDGEN_HEX_LEN  (2 * NGX_VIDGEN_SHA256_LEN)

typedef struct {
    ngx_str_t                  user;         /* UUID, lower case */
    ngx_str_t                  model;
    ngx_str_t                  prompt;
    ngx_str_t                  duration;     /* seconds, digits */
    ngx_str_t                  aspect_ratio;
    ngx_str_t                  provider;     /* empty: no wish */
    ngx_str_t                  key;          /* hex of user and
                                                Idempotency-Key; data NULL:
                                                none */
    ngx_str_t                  fingerprint;  /* hex of the fields above */
} ngx_http_vidgen_input_t;


/*
 * Reads the request's body and headers into input, in pool.  NGX_OK;
 * NGX_DECLINED with *error and perhaps *detail; NGX_ERROR: no memory.
 */
ngx_int_t ngx_http_vidgen_input_read(ngx_http_request_t *r, ngx_pool_t *pool,
    ngx_http_vidgen_input_t *input, ngx_http_vidgen_error_e *error,
    ngx_str_t *detail);


#endif /* _NGX_HTTP_VIDGEN_INPUT_H_INCLUDED_ */
