#ifndef _NGX_VIDGEN_SCHEME_H_INCLUDED_
#define _NGX_VIDGEN_SCHEME_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "base/ngx_vidgen_signature.h"
#include "core/ngx_vidgen_template.h"


/*
 * A webhook signature scheme: independent knobs, see the README's
 * "signature".  Everything here is decided when the configuration loads.
 */

typedef enum {
    NGX_VIDGEN_ENCODING_HEX = 0,
    NGX_VIDGEN_ENCODING_BASE64
} ngx_vidgen_encoding_e;

typedef enum {
    NGX_VIDGEN_KEY_RAW = 0,
    NGX_VIDGEN_KEY_HEX,
    NGX_VIDGEN_KEY_BASE64,
    NGX_VIDGEN_KEY_WHSEC,                /* base64 after whsec_ or whpk_ */
    NGX_VIDGEN_KEY_BARE                  /* as it is after whsec_ or whpk_ */
} ngx_vidgen_key_form_e;

typedef struct {
    ngx_vidgen_algorithm_e     algorithm;
    unsigned                   token:1;      /* no signature: a capability */
    ngx_str_t                  header;       /* lower case */
    u_char                     list;         /* 0: one signature */
    ngx_str_t                  prefix;
    ngx_vidgen_encoding_e      encoding;
    ngx_vidgen_key_form_e      key_form;
    ngx_vidgen_template_t      signed_text;
    ngx_str_t                  timestamp;    /* header, lower case; or empty */
    ngx_str_t                  timestamp_element;   /* "t" of timestamp=@t */
    time_t                     tolerance;    /* seconds */
    ngx_str_t                  event_id;     /* header, lower case; or empty */
    ngx_str_t                  event_id_variable;    /* "http_" and so on */
    unsigned                   event_id_signed:1;
    ngx_str_t                  jwks;         /* URL; or empty */
    ngx_array_t                keys;         /* of ngx_vidgen_key_t *; any may
                                                match */
} ngx_vidgen_scheme_t;

typedef struct {
    ngx_str_t                 *body;         /* raw, contiguous */
    time_t                     now;
    /* a request header by its lower-case name: NGX_OK or NGX_DECLINED */
    ngx_int_t                (*header)(void *data, ngx_str_t *name,
                                   ngx_str_t *value);
    void                      *data;
    ngx_vidgen_source_t       *source;       /* body, body_sha256 and timestamp
                                                are filled here as needed */
} ngx_vidgen_scheme_input_t;


/*
 * NGX_OK: signed by one of the keys and in time.  NGX_DECLINED: 401, with
 * *reason (for the log, names no secret); always so for a token scheme, which
 * has nothing to verify here.  NGX_AGAIN: no key set yet, 503.
 * NGX_ERROR: no memory.
 */
ngx_int_t ngx_vidgen_scheme_verify(ngx_vidgen_scheme_t *scheme,
    ngx_vidgen_scheme_input_t *input, ngx_pool_t *pool, const char **reason);

/*
 * Makes a key for the scheme out of a secret as it is written, by key_form,
 * and appends it.  NGX_OK; NGX_DECLINED: it is not of that form; NGX_ERROR.
 */
ngx_int_t ngx_vidgen_scheme_add_key(ngx_vidgen_scheme_t *scheme,
    ngx_pool_t *pool, ngx_str_t *secret);

/*
 * Reads a key set (RFC 7517) and appends its Ed25519 keys, of which at most
 * 16 count, to keys (of ngx_vidgen_key_t *), all in pool.  NGX_OK: at least
 * one; NGX_DECLINED: *reason; NGX_ERROR: no memory.
 */
ngx_int_t ngx_vidgen_scheme_load_jwks(ngx_pool_t *pool, ngx_str_t *text,
    ngx_array_t *keys, const char **reason);


#endif /* _NGX_VIDGEN_SCHEME_H_INCLUDED_ */
