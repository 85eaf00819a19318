#include "pkcs11.h"

#include <dlfcn.h>
#include <string.h>

typedef unsigned long ulong_t;
typedef unsigned char byte_t;

// Structures and values of PKCS#11 v2.40, in the layout of Unix (no packing).
typedef struct { ulong_t type; void *value; ulong_t length; } attribute;
typedef struct { ulong_t mechanism; void *parameter; ulong_t length; } mechanism;
typedef struct { byte_t *iv; ulong_t ivlen; ulong_t ivbits; byte_t *aad; ulong_t aadlen; ulong_t tagbits; } gcm_params;
typedef struct { void *create, *destroy, *lock, *unlock; ulong_t flags; void *reserved; } init_args;
typedef struct { byte_t label[32]; byte_t rest[512]; } token_info;

enum {
	CKR_OK = 0, CKR_GENERAL_ERROR = 5, CKR_ATTRIBUTE_SENSITIVE = 0x11, CKR_DATA_INVALID = 0x20, CKR_ENCRYPTED_DATA_INVALID = 0x40, CKR_ENCRYPTED_DATA_LEN_RANGE = 0x41,
	CKR_KEY_NOT_NEEDED = 0x64, CKR_KEY_UNEXTRACTABLE = 0x6a, CKR_TOKEN_NOT_PRESENT = 0xe0, CKR_TEMPLATE_INCONSISTENT = 0xd1,
	CKO_SECRET_KEY = 4, CKK_AES = 0x1f, CKM_AES_KEY_GEN = 0x1080, CKM_AES_GCM = 0x1087,
	CKA_CLASS = 0, CKA_TOKEN = 1, CKA_PRIVATE = 2, CKA_LABEL = 3, CKA_VALUE = 0x11, CKA_KEY_TYPE = 0x100, CKA_SENSITIVE = 0x103, CKA_ENCRYPT = 0x104,
	CKA_DECRYPT = 0x105, CKA_VALUE_LEN = 0x161, CKA_EXTRACTABLE = 0x162, CKA_MODIFIABLE = 0x170,
	CKF_RW_SESSION = 2, CKF_SERIAL_SESSION = 4, CKF_OS_LOCKING_OK = 2, CKU_USER = 1,
	SLOTS = 64
};

static void *library_handle;
static ulong_t session, key;

// call finds a function of the library, which exports every function of the standard under its name.
#define CALL(name, params, ...) \
	({ \
		*what = #name; \
		ulong_t(*f) params = (ulong_t(*) params)dlsym(library_handle, #name); \
		f ? f(__VA_ARGS__) : (ulong_t)CKR_GENERAL_ERROR; \
	})

static ulong_t find_slot(const char *token, ulong_t *slot, const char **what) {
	ulong_t slots[SLOTS], n = SLOTS;
	ulong_t rv = CALL(C_GetSlotList, (byte_t, ulong_t *, ulong_t *), 1, slots, &n);
	if (rv) return rv;
	byte_t label[32];
	memset(label, ' ', sizeof label); // labels are padded with blanks
	memcpy(label, token, strlen(token) < sizeof label ? strlen(token) : sizeof label);
	for (ulong_t i = 0; i < n; i++) {
		token_info info;
		if (CALL(C_GetTokenInfo, (ulong_t, token_info *), slots[i], &info) == CKR_OK && memcmp(info.label, label, sizeof label) == 0) {
			*slot = slots[i];
			return CKR_OK;
		}
	}
	*what = "no token with this label";
	return CKR_TOKEN_NOT_PRESENT;
}

// find_key looks for the key; *found is how many there are, at most 2.
static ulong_t find_key(const char *label, ulong_t *found, const char **what) {
	ulong_t class = CKO_SECRET_KEY, type = CKK_AES, keys[2], n = 0;
	attribute want[] = {{CKA_CLASS, &class, sizeof class}, {CKA_KEY_TYPE, &type, sizeof type}, {CKA_LABEL, (void *)label, strlen(label)}};
	ulong_t rv = CALL(C_FindObjectsInit, (ulong_t, attribute *, ulong_t), session, want, 3);
	if (rv) return rv;
	rv = CALL(C_FindObjects, (ulong_t, ulong_t *, ulong_t, ulong_t *), session, keys, 2, &n);
	ulong_t end = CALL(C_FindObjectsFinal, (ulong_t), session);
	*found = n;
	if (n == 1) key = keys[0];
	return rv ? rv : end;
}

static ulong_t make_key(const char *label, const char **what) {
	ulong_t class = CKO_SECRET_KEY, type = CKK_AES, length = 32;
	byte_t yes = 1, no = 0;
	attribute with[] = {
		{CKA_CLASS, &class, sizeof class}, {CKA_KEY_TYPE, &type, sizeof type}, {CKA_VALUE_LEN, &length, sizeof length},
		{CKA_LABEL, (void *)label, strlen(label)}, {CKA_TOKEN, &yes, 1}, {CKA_PRIVATE, &yes, 1}, {CKA_SENSITIVE, &yes, 1},
		{CKA_EXTRACTABLE, &no, 1}, {CKA_ENCRYPT, &yes, 1}, {CKA_DECRYPT, &yes, 1}, {CKA_MODIFIABLE, &no, 1},
	};
	mechanism m = {CKM_AES_KEY_GEN, 0, 0};
	return CALL(C_GenerateKey, (ulong_t, mechanism *, attribute *, ulong_t, ulong_t *), session, &m, with, sizeof with / sizeof *with, &key);
}

// check_key refuses a key that could leave, and tries to read it.
static ulong_t check_key(const char **what) {
	byte_t sensitive = 0, extractable = 1, value[64];
	ulong_t length = 0;
	attribute get[] = {{CKA_SENSITIVE, &sensitive, 1}, {CKA_EXTRACTABLE, &extractable, 1}, {CKA_VALUE_LEN, &length, sizeof length}};
	ulong_t rv = CALL(C_GetAttributeValue, (ulong_t, ulong_t, attribute *, ulong_t), session, key, get, 3);
	if (rv) return rv;
	attribute read = {CKA_VALUE, value, sizeof value};
	rv = CALL(C_GetAttributeValue, (ulong_t, ulong_t, attribute *, ulong_t), session, key, &read, 1);
	memset(value, 0, sizeof value);
	if (!sensitive || extractable || length != 32 || (rv != CKR_ATTRIBUTE_SENSITIVE && rv != CKR_KEY_UNEXTRACTABLE)) {
		*what = "the key could be read out of the module, or is no AES-256 key";
		return CKR_TEMPLATE_INCONSISTENT;
	}
	return CKR_OK;
}

unsigned long hsm_open(const char *library, const char *token, const char *pin, const char *label, int create, const char **what) {
	*what = "the library does not load";
	library_handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
	if (!library_handle) return CKR_GENERAL_ERROR;
	init_args args = {0, 0, 0, 0, CKF_OS_LOCKING_OK, 0};
	ulong_t slot = 0, found = 0, rv;
	if ((rv = CALL(C_Initialize, (init_args *), &args))) return rv;
	if ((rv = find_slot(token, &slot, what))) return rv;
	if ((rv = CALL(C_OpenSession, (ulong_t, ulong_t, void *, void *, ulong_t *), slot, CKF_RW_SESSION | CKF_SERIAL_SESSION, 0, 0, &session))) return rv;
	if ((rv = CALL(C_Login, (ulong_t, ulong_t, const byte_t *, ulong_t), session, CKU_USER, (const byte_t *)pin, strlen(pin)))) return rv;
	if ((rv = find_key(label, &found, what))) return rv;
	if (create && found == 0) {
		if ((rv = make_key(label, what))) return rv;
	} else if (create || found != 1) {
		*what = create ? "there is a key with this label" : "not one key with this label";
		return CKR_KEY_NOT_NEEDED;
	}
	return check_key(what);
}

unsigned long hsm_crypt(int encrypt, unsigned char *iv, unsigned long ivlen, unsigned char *aad, unsigned long aadlen, unsigned char *in, unsigned long inlen,
                        unsigned char *out, unsigned long *outlen, const char **what) {
	gcm_params p = {iv, ivlen, ivlen * 8, aad, aadlen, 128};
	mechanism m = {CKM_AES_GCM, &p, sizeof p};
	ulong_t rv;
	if (encrypt) {
		if ((rv = CALL(C_EncryptInit, (ulong_t, mechanism *, ulong_t), session, &m, key))) return rv;
		return CALL(C_Encrypt, (ulong_t, byte_t *, ulong_t, byte_t *, ulong_t *), session, in, inlen, out, outlen);
	}
	if ((rv = CALL(C_DecryptInit, (ulong_t, mechanism *, ulong_t), session, &m, key))) return rv;
	rv = CALL(C_Decrypt, (ulong_t, byte_t *, ulong_t, byte_t *, ulong_t *), session, in, inlen, out, outlen);
	return rv == CKR_GENERAL_ERROR ? CKR_ENCRYPTED_DATA_INVALID : rv; // softhsm2 2.6.1 says no more than that of a wrong tag
}

int hsm_damaged(unsigned long rv) {
	return rv == CKR_DATA_INVALID || rv == CKR_ENCRYPTED_DATA_INVALID || rv == CKR_ENCRYPTED_DATA_LEN_RANGE;
}

void hsm_close(void) {
	const char *ignored, **what = &ignored;
	(void)CALL(C_Finalize, (void *), 0);
}
