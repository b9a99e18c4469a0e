#ifndef _NGX_VIDGEN_SIGNATURE_H_INCLUDED_
#define _NGX_VIDGEN_SIGNATURE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/*
 * Digests, MACs and signatures: the only user of OpenSSL.  Keys are prepared
 * once when the configuration loads; verifying allocates nothing that
 * outlives the call and compares in constant time.
 */

#define NGX_VIDGEN_SHA256_LEN  32

typedef enum {
    NGX_VIDGEN_HMAC_SHA256 = 0,
    NGX_VIDGEN_HMAC_SHA512,
    NGX_VIDGEN_ED25519
} ngx_vidgen_algorithm_e;

typedef struct ngx_vidgen_key_s  ngx_vidgen_key_t;


/* SHA-256 over count pieces, taken as one text. */
ngx_int_t ngx_vidgen_sha256(ngx_str_t *pieces, ngx_uint_t count,
    u_char digest[NGX_VIDGEN_SHA256_LEN]);

/*
 * Prepares a key: for HMAC the secret's bytes, for Ed25519 the 32 bytes of a
 * public key.  Freed with pool.  NULL: no memory, or not a key.
 */
ngx_vidgen_key_t *ngx_vidgen_key_create(ngx_pool_t *pool,
    ngx_vidgen_algorithm_e algorithm, ngx_str_t *bytes);

/*
 * Whether signature (raw bytes) is that of the pieces taken as one text.
 * NGX_OK: it is; NGX_DECLINED: it is not (also: wrong length); NGX_ERROR.
 */
ngx_int_t ngx_vidgen_key_verify(ngx_vidgen_key_t *key, ngx_str_t *pieces,
    ngx_uint_t count, ngx_str_t *signature);

/*
 * The HMAC of the pieces into mac, which has room for 64 bytes; *len is set.
 * NGX_ERROR for an Ed25519 key.
 */
ngx_int_t ngx_vidgen_key_sign(ngx_vidgen_key_t *key, ngx_str_t *pieces,
    ngx_uint_t count, u_char *mac, size_t *len);

/* Constant time for equal lengths; 1: equal. */
ngx_uint_t ngx_vidgen_equal(ngx_str_t *a, ngx_str_t *b);

/* Random bytes fit for identifiers.  NGX_ERROR: none to be had. */
ngx_int_t ngx_vidgen_random(u_char *bytes, size_t len);


#endif /* _NGX_VIDGEN_SIGNATURE_H_INCLUDED_ */
