#include <ngx_config.h>
#include <ngx_core.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include "base/ngx_vidgen_signature.h"


#define NGX_VIDGEN_ED25519_KEY_LEN  32
#define NGX_VIDGEN_ED25519_LEN      64


struct ngx_vidgen_key_s {
    ngx_vidgen_algorithm_e   algorithm;
    size_t                   len;        /* bytes of a signature */
    EVP_MAC_CTX             *mac;        /* keyed; reset for each use */
    EVP_PKEY                *public;
};


static ngx_int_t ngx_vidgen_key_init_mac(ngx_vidgen_key_t *key,
    ngx_str_t *bytes);
static ngx_int_t ngx_vidgen_key_init_public(ngx_vidgen_key_t *key,
    ngx_str_t *bytes);
static void ngx_vidgen_key_cleanup(void *data);
static ngx_int_t ngx_vidgen_key_verify_public(ngx_vidgen_key_t *key,
    ngx_str_t *text, ngx_str_t *signature);
static ngx_int_t ngx_vidgen_key_verify_joined(ngx_vidgen_key_t *key,
    ngx_str_t *pieces, ngx_uint_t count, ngx_str_t *signature);


/* fetched once: a fetch for each digest would cost more than the digest */
static EVP_MD      *ngx_vidgen_sha256_md;
static EVP_MD_CTX  *ngx_vidgen_sha256_ctx;


ngx_int_t
ngx_vidgen_sha256(ngx_str_t *pieces, ngx_uint_t count,
    u_char digest[NGX_VIDGEN_SHA256_LEN])
{
    ngx_uint_t  i;

    if (ngx_vidgen_sha256_ctx == NULL) {
        ngx_vidgen_sha256_md = EVP_MD_fetch(NULL, "SHA256", NULL);
        if (ngx_vidgen_sha256_md == NULL) {
            return NGX_ERROR;
        }

        ngx_vidgen_sha256_ctx = EVP_MD_CTX_new();
        if (ngx_vidgen_sha256_ctx == NULL) {
            EVP_MD_free(ngx_vidgen_sha256_md);
            return NGX_ERROR;
        }
    }

    if (EVP_DigestInit_ex(ngx_vidgen_sha256_ctx, ngx_vidgen_sha256_md, NULL)
        != 1)
    {
        return NGX_ERROR;
    }

    for (i = 0; i < count; i++) {
        if (EVP_DigestUpdate(ngx_vidgen_sha256_ctx, pieces[i].data,
                             pieces[i].len)
            != 1)
        {
            return NGX_ERROR;
        }
    }

    return EVP_DigestFinal_ex(ngx_vidgen_sha256_ctx, digest, NULL) == 1
           ? NGX_OK : NGX_ERROR;
}


ngx_vidgen_key_t *
ngx_vidgen_key_create(ngx_pool_t *pool, ngx_vidgen_algorithm_e algorithm,
    ngx_str_t *bytes)
{
    ngx_int_t            rc;
    ngx_vidgen_key_t    *key;
    ngx_pool_cleanup_t  *cln;

    if (bytes->len == 0) {
        return NULL;
    }

    cln = ngx_pool_cleanup_add(pool, sizeof(ngx_vidgen_key_t));
    if (cln == NULL) {
        return NULL;
    }

    key = cln->data;
    ngx_memzero(key, sizeof(ngx_vidgen_key_t));

    key->algorithm = algorithm;
    cln->handler = ngx_vidgen_key_cleanup;

    rc = algorithm == NGX_VIDGEN_ED25519
         ? ngx_vidgen_key_init_public(key, bytes)
         : ngx_vidgen_key_init_mac(key, bytes);

    return rc == NGX_OK ? key : NULL;
}


static ngx_int_t
ngx_vidgen_key_init_mac(ngx_vidgen_key_t *key, ngx_str_t *bytes)
{
    EVP_MAC     *mac;
    OSSL_PARAM   params[2];

    mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    if (mac == NULL) {
        return NGX_ERROR;
    }

    key->mac = EVP_MAC_CTX_new(mac);

    EVP_MAC_free(mac);                   /* the context keeps its own */

    if (key->mac == NULL) {
        return NGX_ERROR;
    }

    params[0] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST,
                    key->algorithm == NGX_VIDGEN_HMAC_SHA512
                    ? "SHA512" : "SHA256", 0);
    params[1] = OSSL_PARAM_construct_end();

    if (EVP_MAC_init(key->mac, bytes->data, bytes->len, params) != 1) {
        return NGX_ERROR;
    }

    key->len = EVP_MAC_CTX_get_mac_size(key->mac);

    return NGX_OK;
}


static ngx_int_t
ngx_vidgen_key_init_public(ngx_vidgen_key_t *key, ngx_str_t *bytes)
{
    if (bytes->len != NGX_VIDGEN_ED25519_KEY_LEN) {
        return NGX_ERROR;
    }

    key->public = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL,
                                              bytes->data, bytes->len);
    if (key->public == NULL) {
        return NGX_ERROR;
    }

    key->len = NGX_VIDGEN_ED25519_LEN;

    return NGX_OK;
}


static void
ngx_vidgen_key_cleanup(void *data)
{
    ngx_vidgen_key_t  *key = data;

    EVP_MAC_CTX_free(key->mac);          /* both ignore NULL */
    EVP_PKEY_free(key->public);
}


ngx_int_t
ngx_vidgen_key_verify(ngx_vidgen_key_t *key, ngx_str_t *pieces,
    ngx_uint_t count, ngx_str_t *signature)
{
    u_char     mac[EVP_MAX_MD_SIZE];
    size_t     len;
    ngx_str_t  expected;

    if (signature->len != key->len) {
        return NGX_DECLINED;
    }

    if (key->algorithm == NGX_VIDGEN_ED25519) {
        return count == 1
               ? ngx_vidgen_key_verify_public(key, pieces, signature)
               : ngx_vidgen_key_verify_joined(key, pieces, count, signature);
    }

    if (ngx_vidgen_key_sign(key, pieces, count, mac, &len) != NGX_OK) {
        return NGX_ERROR;
    }

    expected.len = len;
    expected.data = mac;

    return ngx_vidgen_equal(&expected, signature) ? NGX_OK : NGX_DECLINED;
}


/* Ed25519 reads its text twice, so it wants it in one piece */

static ngx_int_t
ngx_vidgen_key_verify_joined(ngx_vidgen_key_t *key, ngx_str_t *pieces,
    ngx_uint_t count, ngx_str_t *signature)
{
    u_char      *p;
    size_t       len;
    ngx_int_t    rc;
    ngx_str_t    text;
    ngx_uint_t   i;

    len = 0;

    for (i = 0; i < count; i++) {
        len += pieces[i].len;
    }

    text.len = len;
    text.data = ngx_alloc(len ? len : 1, ngx_cycle->log);
    if (text.data == NULL) {
        return NGX_ERROR;
    }

    p = text.data;

    for (i = 0; i < count; i++) {
        p = ngx_cpymem(p, pieces[i].data, pieces[i].len);
    }

    rc = ngx_vidgen_key_verify_public(key, &text, signature);

    ngx_free(text.data);

    return rc;
}


static ngx_int_t
ngx_vidgen_key_verify_public(ngx_vidgen_key_t *key, ngx_str_t *text,
    ngx_str_t *signature)
{
    ngx_int_t    rc;
    EVP_MD_CTX  *ctx;

    ctx = EVP_MD_CTX_new();
    if (ctx == NULL) {
        return NGX_ERROR;
    }

    if (EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key->public) != 1) {
        rc = NGX_ERROR;

    } else {
        rc = EVP_DigestVerify(ctx, signature->data, signature->len,
                              text->data, text->len)
             == 1 ? NGX_OK : NGX_DECLINED;
    }

    EVP_MD_CTX_free(ctx);

    return rc;
}


ngx_int_t
ngx_vidgen_key_sign(ngx_vidgen_key_t *key, ngx_str_t *pieces,
    ngx_uint_t count, u_char *mac, size_t *len)
{
    ngx_uint_t  i;

    /* without a key, init takes the one that the context was made with */

    if (key->mac == NULL || EVP_MAC_init(key->mac, NULL, 0, NULL) != 1) {
        return NGX_ERROR;
    }

    for (i = 0; i < count; i++) {
        if (EVP_MAC_update(key->mac, pieces[i].data, pieces[i].len) != 1) {
            return NGX_ERROR;
        }
    }

    return EVP_MAC_final(key->mac, mac, len, EVP_MAX_MD_SIZE) == 1
           ? NGX_OK : NGX_ERROR;
}


ngx_uint_t
ngx_vidgen_equal(ngx_str_t *a, ngx_str_t *b)
{
    return a->len == b->len && CRYPTO_memcmp(a->data, b->data, a->len) == 0;
}


ngx_int_t
ngx_vidgen_random(u_char *bytes, size_t len)
{
    return len <= NGX_MAX_INT32_VALUE && RAND_bytes(bytes, (int) len) == 1
           ? NGX_OK : NGX_ERROR;
}
