#include <ngx_config.h>
#include <ngx_core.h>
#include "core/ngx_vidgen_scheme.h"
#include "base/ngx_vidgen_text.h"


/* what a forger can make us compute is bounded */
#define NGX_VIDGEN_SIGNATURES_MAX  16
#define NGX_VIDGEN_SIGNATURES_SLOW  4    /* of public keys */
#define NGX_VIDGEN_SIGNATURE_LEN   64    /* bytes of the longest signature */
#define NGX_VIDGEN_TIMESTAMP_LEN   15    /* digits */


/* the signatures of a request, decoded */
typedef struct {
    ngx_str_t    text[NGX_VIDGEN_SIGNATURES_MAX];
    u_char       bytes[NGX_VIDGEN_SIGNATURES_MAX][NGX_VIDGEN_SIGNATURE_LEN];
    ngx_uint_t   n;
    ngx_str_t    timestamp;
} ngx_vidgen_signatures_t;


static void ngx_vidgen_scheme_split(ngx_vidgen_scheme_t *scheme,
    ngx_str_t *header, ngx_vidgen_signatures_t *found);
static void ngx_vidgen_scheme_element(ngx_vidgen_scheme_t *scheme,
    ngx_str_t *element, ngx_vidgen_signatures_t *found);
static void ngx_vidgen_scheme_trim(ngx_str_t *text);
static ngx_uint_t ngx_vidgen_scheme_in_time(ngx_vidgen_scheme_t *scheme,
    ngx_str_t *text, time_t now);
static ngx_int_t ngx_vidgen_scheme_pieces(ngx_vidgen_scheme_t *scheme,
    ngx_vidgen_scheme_input_t *input, ngx_pool_t *pool, ngx_array_t *pieces);
static ngx_int_t ngx_vidgen_scheme_match(ngx_vidgen_scheme_t *scheme,
    ngx_array_t *pieces, ngx_vidgen_signatures_t *found);
static ngx_int_t ngx_vidgen_scheme_match_mac(ngx_vidgen_key_t *key,
    ngx_array_t *pieces, ngx_vidgen_signatures_t *found);


ngx_int_t
ngx_vidgen_scheme_verify(ngx_vidgen_scheme_t *scheme,
    ngx_vidgen_scheme_input_t *input, ngx_pool_t *pool, const char **reason)
{
    ngx_int_t                 rc;
    ngx_str_t                 header;
    ngx_array_t               pieces;
    ngx_vidgen_signatures_t   found;

    *reason = NULL;

    if (scheme->token) {
        *reason = "the provider does not sign";
        return NGX_DECLINED;
    }

    if (scheme->keys.nelts == 0) {

        if (scheme->jwks.len) {
            return NGX_AGAIN;
        }

        *reason = "no secret is configured";
        return NGX_DECLINED;
    }

    if (input->header(input->data, &scheme->header, &header) != NGX_OK) {
        *reason = "no signature";
        return NGX_DECLINED;
    }

    ngx_vidgen_scheme_split(scheme, &header, &found);

    if (found.n == 0) {
        *reason = "malformed signature";
        return NGX_DECLINED;
    }

    if (scheme->timestamp.len
        && input->header(input->data, &scheme->timestamp, &found.timestamp)
           != NGX_OK)
    {
        ngx_str_null(&found.timestamp);
    }

    if (scheme->timestamp.len || scheme->timestamp_element.len) {

        if (!ngx_vidgen_scheme_in_time(scheme, &found.timestamp, input->now)) {
            *reason = "timestamp missing, malformed or out of tolerance";
            return NGX_DECLINED;
        }

        input->source->values[NGX_VIDGEN_VALUE_TIMESTAMP] = found.timestamp;
    }

    if (ngx_vidgen_scheme_pieces(scheme, input, pool, &pieces) != NGX_OK) {
        return NGX_ERROR;
    }

    rc = ngx_vidgen_scheme_match(scheme, &pieces, &found);

    if (rc == NGX_DECLINED) {
        *reason = "wrong signature";
    }

    return rc;
}


static void
ngx_vidgen_scheme_split(ngx_vidgen_scheme_t *scheme, ngx_str_t *header,
    ngx_vidgen_signatures_t *found)
{
    u_char     *p, *last;
    ngx_str_t   element;

    found->n = 0;
    ngx_str_null(&found->timestamp);

    if (scheme->list == 0) {
        ngx_vidgen_scheme_element(scheme, header, found);
        return;
    }

    p = header->data;
    last = header->data + header->len;

    while (p <= last) {
        element.data = p;

        while (p < last && *p != scheme->list) {
            p++;
        }

        element.len = p - element.data;
        p++;

        ngx_vidgen_scheme_trim(&element);
        ngx_vidgen_scheme_element(scheme, &element, found);
    }
}


static void
ngx_vidgen_scheme_trim(ngx_str_t *text)
{
    while (text->len && *text->data == ' ') {
        text->data++;
        text->len--;
    }

    while (text->len && text->data[text->len - 1] == ' ') {
        text->len--;
    }
}


/* an element is the timestamp, a signature, or something to pass over */

static void
ngx_vidgen_scheme_element(ngx_vidgen_scheme_t *scheme, ngx_str_t *element,
    ngx_vidgen_signatures_t *found)
{
    ngx_int_t   rc;
    ngx_str_t   text, *name, *bytes;

    name = &scheme->timestamp_element;

    if (name->len && element->len > name->len
        && element->data[name->len] == '='
        && ngx_strncmp(element->data, name->data, name->len) == 0)
    {
        /* the first one counts, and so does the same for the sender */

        if (found->timestamp.data == NULL) {
            found->timestamp.data = element->data + name->len + 1;
            found->timestamp.len = element->len - name->len - 1;
        }

        return;
    }

    if (found->n == (scheme->algorithm == NGX_VIDGEN_ED25519
                     ? NGX_VIDGEN_SIGNATURES_SLOW : NGX_VIDGEN_SIGNATURES_MAX)
        || element->len < scheme->prefix.len
        || (scheme->prefix.len
            && ngx_strncmp(element->data, scheme->prefix.data,
                           scheme->prefix.len)
               != 0))
    {
        return;
    }

    text.data = element->data + scheme->prefix.len;
    text.len = element->len - scheme->prefix.len;

    /* a longer text is not a signature, and would not fit */

    if (text.len == 0
        || text.len > (scheme->encoding == NGX_VIDGEN_ENCODING_HEX
                       ? 2 * NGX_VIDGEN_SIGNATURE_LEN
                       : ngx_base64_encoded_length(NGX_VIDGEN_SIGNATURE_LEN)))
    {
        return;
    }

    bytes = &found->text[found->n];
    bytes->data = found->bytes[found->n];

    rc = scheme->encoding == NGX_VIDGEN_ENCODING_HEX
         ? ngx_vidgen_text_unhex(bytes, &text)
         : ngx_vidgen_text_unbase64(bytes, &text);

    if (rc == NGX_OK) {
        found->n++;
    }
}


static ngx_uint_t
ngx_vidgen_scheme_in_time(ngx_vidgen_scheme_t *scheme, ngx_str_t *text,
    time_t now)
{
    int64_t  sent, apart;

    if (text->len == 0 || text->len > NGX_VIDGEN_TIMESTAMP_LEN) {
        return 0;
    }

    sent = ngx_atotm(text->data, text->len);

    if (sent == NGX_ERROR) {
        return 0;
    }

    if (sent > 100000000000) {           /* milliseconds */
        sent /= 1000;
    }

    apart = (int64_t) now - sent;

    return apart <= scheme->tolerance && -apart <= scheme->tolerance;
}


static ngx_int_t
ngx_vidgen_scheme_pieces(ngx_vidgen_scheme_t *scheme,
    ngx_vidgen_scheme_input_t *input, ngx_pool_t *pool, ngx_array_t *pieces)
{
    u_char      digest[NGX_VIDGEN_SHA256_LEN];
    ngx_str_t  *hex;

    input->source->values[NGX_VIDGEN_VALUE_BODY] = *input->body;

    if (scheme->signed_text.uses & (1 << NGX_VIDGEN_VALUE_BODY_SHA256)) {

        if (ngx_vidgen_sha256(input->body, 1, digest) != NGX_OK) {
            return NGX_ERROR;
        }

        hex = &input->source->values[NGX_VIDGEN_VALUE_BODY_SHA256];

        hex->len = 2 * NGX_VIDGEN_SHA256_LEN;
        hex->data = ngx_pnalloc(pool, hex->len);
        if (hex->data == NULL) {
            return NGX_ERROR;
        }

        ngx_hex_dump(hex->data, digest, NGX_VIDGEN_SHA256_LEN);
    }

    if (ngx_array_init(pieces, pool, scheme->signed_text.parts.nelts + 1,
                       sizeof(ngx_str_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_vidgen_template_pieces(&scheme->signed_text, input->source,
                                      pool, pieces);
}


/* all of it is done for a wrong signature: time does not tell which key */

static ngx_int_t
ngx_vidgen_scheme_match(ngx_vidgen_scheme_t *scheme, ngx_array_t *pieces,
    ngx_vidgen_signatures_t *found)
{
    ngx_int_t           rc;
    ngx_uint_t          i, j;
    ngx_vidgen_key_t  **key;

    key = scheme->keys.elts;

    for (i = 0; i < scheme->keys.nelts; i++) {

        if (scheme->algorithm != NGX_VIDGEN_ED25519) {
            rc = ngx_vidgen_scheme_match_mac(key[i], pieces, found);

            if (rc != NGX_DECLINED) {
                return rc;
            }

            continue;
        }

        for (j = 0; j < found->n; j++) {
            rc = ngx_vidgen_key_verify(key[i], pieces->elts, pieces->nelts,
                                       &found->text[j]);
            if (rc != NGX_DECLINED) {
                return rc;
            }
        }
    }

    return NGX_DECLINED;
}


/* one MAC for all the signatures */

static ngx_int_t
ngx_vidgen_scheme_match_mac(ngx_vidgen_key_t *key, ngx_array_t *pieces,
    ngx_vidgen_signatures_t *found)
{
    u_char      mac[64];
    ngx_str_t   expected;
    ngx_uint_t  i;

    expected.data = mac;

    if (ngx_vidgen_key_sign(key, pieces->elts, pieces->nelts, mac,
                            &expected.len)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    for (i = 0; i < found->n; i++) {
        if (ngx_vidgen_equal(&expected, &found->text[i])) {
            return NGX_OK;
        }
    }

    return NGX_DECLINED;
}
