// The part of PKCS#11 v2.40 that is used: one session with one key. Written against the standard; no header of a vendor is needed.
#ifndef SOTTO_PKCS11_H
#define SOTTO_PKCS11_H

// hsm_open loads the library, logs in to the token with a label, and finds the AES-256 key with a label, or makes it. It refuses a key
// that could leave the module. Returns a CKR code, and in *what which step it is of.
unsigned long hsm_open(const char *library, const char *token, const char *pin, const char *label, int create, const char **what);

// hsm_crypt encrypts or decrypts by AES-GCM with a tag of 16 bytes.
unsigned long hsm_crypt(int encrypt, unsigned char *iv, unsigned long ivlen, unsigned char *aad, unsigned long aadlen, unsigned char *in, unsigned long inlen,
                        unsigned char *out, unsigned long *outlen, const char **what);

// hsm_damaged says whether a code is that of a ciphertext that does not open.
int hsm_damaged(unsigned long rv);

void hsm_close(void);

#endif
